/* libseccomp's program for the rules on standard input, as raw instructions on standard output:
 *   default ACTION | arch NAME | rule ACTION SYSCALL COUNT (INDEX OPERATOR VALUE MASKED)...
 * Numbers are what strtoull takes. */
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t number(void)
{
	return strtoull(strtok(NULL, " \n"), NULL, 0);
}

int main(void)
{
	char line[4096];
	scmp_filter_ctx filter = NULL;
	while (fgets(line, sizeof line, stdin)) {
		char *word = strtok(line, " \n");
		if (!strcmp(word, "default")) {
			filter = seccomp_init(number());
		} else if (!strcmp(word, "arch")) {
			if (seccomp_arch_add(filter, seccomp_arch_resolve_name(strtok(NULL, " \n"))))
				return 3;
		} else {
			uint32_t action = number();
			int call = seccomp_syscall_resolve_name(strtok(NULL, " \n"));
			unsigned count = number();
			struct scmp_arg_cmp conditions[6];
			for (unsigned i = 0; i < count; i++) {
				conditions[i].arg = number();
				conditions[i].op = number();
				conditions[i].datum_a = number();
				conditions[i].datum_b = number();
			}
			if (call == __NR_SCMP_ERROR || seccomp_rule_add_array(filter, action, call, count, conditions))
				return 4;
		}
	}
	return filter && !seccomp_export_bpf(filter, STDOUT_FILENO) ? 0 : 5;
}
