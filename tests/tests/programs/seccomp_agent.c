/* A supervisor of system calls, as a container manager has one: takes the notify descriptors that runtimes send to a
 * unix socket, prints what came with each, refuses the first call of every filter with ENOMEDIUM and lets the others
 * go on. Usage: agent SOCKET FILTERS; it ends when that many filters have no process any more. */
#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <stdlib.h>
#include <unistd.h>

static int take(int listener)
{
	char text[65536], control[CMSG_SPACE(sizeof(int))];
	struct iovec part = { text, sizeof text - 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	int fd = -1, peer = accept(listener, NULL, NULL);
	ssize_t length = recvmsg(peer, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	if (length < 0 || !rights || rights->cmsg_type != SCM_RIGHTS)
		exit(2);
	memcpy(&fd, CMSG_DATA(rights), sizeof fd);
	printf("%.*s\n", (int)length, text);
	fflush(stdout);
	close(peer);
	return fd;
}

static void serve(int fd)
{
	for (int call = 0;; call++) {
		struct pollfd ready = { fd, POLLIN, 0 };
		struct seccomp_notif asked;
		struct seccomp_notif_resp answer;
		memset(&asked, 0, sizeof asked);
		memset(&answer, 0, sizeof answer);
		if (poll(&ready, 1, -1) < 0 || !(ready.revents & POLLIN))
			return;
		if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &asked))
			continue;
		answer.id = asked.id;
		if (call == 0)
			answer.error = -ENOMEDIUM;
		else
			answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

int main(int count, char **words)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (count != 3)
		return 2;
	/* The name that others wait for appears once somebody listens. */
	snprintf(address.sun_path, sizeof address.sun_path, "%s.new", words[1]);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8) ||
	    rename(address.sun_path, words[1]))
		return 2;
	for (int filter = 0; filter < atoi(words[2]); filter++) {
		int fd = take(listener);
		serve(fd);
		close(fd);
	}
	return 0;
}
