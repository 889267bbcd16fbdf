//! A small laboratory for tests of networks: a private "host" namespace with an uplink to a "world", and pods.
//!
//! A test's closure runs on a thread that has left the machine's network namespace; every thread and child process
//! that it starts inherits the private one. Nothing needs to be removed afterwards: the kernel removes a namespace
//! with its last process.

use crate::config::Config;
use nix::sched::{CloneFlags, unshare};
use std::fs::{self, File};
use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For a whole test on the slowest machine.
const LONGEST: Duration = Duration::from_secs(300);
/// For one step of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// After this long without an answer there is none.
const SILENCE: Duration = Duration::from_secs(2);

const WORLD: &str = "192.0.2.1";
const UPLINK: &str = "192.0.2.2";

/// The private host.
pub(crate) struct Lab {
    data: tempfile::TempDir,
    world: Arc<Pod>,
}

impl Lab {
    /// Runs a test in a namespace of its own, with a deadline.
    pub(crate) fn run<F: Future<Output = ()>>(test: impl FnOnce(Arc<Lab>) -> F + Send + 'static) {
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let test = test(Arc::new(Lab::new()));
                tokio::time::timeout(LONGEST, test).await.expect("the test does not end");
            });
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }

    fn new() -> Self {
        let lab = Self { data: tempfile::tempdir().unwrap(), world: Arc::new(Pod::new()) };
        let pid = lab.world.process.id();
        lab.shell(&format!(
            "ip link set lo up && ip link add uplink type veth peer name eth0 netns {pid} && ip link set uplink up \
             && ip addr add {UPLINK}/24 dev uplink && ip route add default via {WORLD}"
        ));
        lab.world
            .shell(&format!("ip link set lo up && ip link set eth0 up && ip addr add {WORLD}/24 dev eth0"));
        lab
    }

    /// The default configuration with its own directories.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::new(Config {
            data_dir: self.data.path().join("data"),
            state_dir: self.data.path().join("state"),
            ..Config::default()
        })
    }

    /// What is beyond the host's uplink. It has no route to pods.
    pub(crate) fn world(&self) -> Arc<Pod> {
        self.world.clone()
    }

    pub(crate) fn world_address(&self) -> IpAddr {
        WORLD.parse().unwrap()
    }

    pub(crate) fn uplink_address(&self) -> IpAddr {
        UPLINK.parse().unwrap()
    }

    /// Runs a command on the host; it must succeed.
    pub(crate) fn shell(&self, script: &str) -> String {
        run(Command::new("sh").args(["-c", script]))
    }

    /// Connects from the host and reads everything.
    pub(crate) fn get(&self, address: IpAddr, port: u16) -> String {
        read_from(address, port, PATIENCE)
            .unwrap_or_else(|error| panic!("no answer from {address}:{port} on the host: {error}"))
    }

    pub(crate) fn try_get(&self, address: IpAddr, port: u16) -> Option<String> {
        read_from(address, port, SILENCE).ok()
    }

    /// Whether a connection is refused, which is not the same as that nothing is heard.
    pub(crate) fn is_refused(&self, address: IpAddr, port: u16) -> bool {
        refuses(address, port)
    }

    /// Whether nothing is heard.
    pub(crate) fn is_silent(&self, address: IpAddr, port: u16) -> bool {
        says_nothing(address, port)
    }

    /// A server on the host that answers every connection with `text`, until dropped.
    pub(crate) fn serve_at(
        &self,
        address: &str,
        port: u16,
        text: &'static str,
    ) -> std::thread::JoinHandle<()> {
        let listener = TcpListener::bind((address, port)).unwrap();
        std::thread::spawn(move || answer(&listener, text, usize::MAX))
    }

    /// Names of the links at the host's end of pods.
    pub(crate) fn links_of_pods(&self) -> Vec<String> {
        let list = self.shell("ip -o link show master knarr0 2>/dev/null || true");
        list.lines().filter_map(|line| line.split(": ").nth(1)).map(str::to_owned).collect()
    }

    /// Nothing that knarr makes exists.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.shell("nft list tables"), "");
        let links = self.shell("ip -o link");
        let left: Vec<&str> =
            links.lines().filter(|line| line.contains("knarr") || line.contains(": veth")).collect();
        assert!(left.is_empty(), "links are left: {left:?}");
        for kind in ["pods", "leaving"] {
            let dir = self.data.path().join("data/network").join(kind);
            assert!(
                fs::read_dir(dir).is_ok_and(|mut pods| pods.next().is_none()),
                "allocations are left: {kind}"
            );
        }
    }
}

/// A process in a network namespace of its own; both end when it is dropped.
pub(crate) struct Pod {
    process: Child,
}

impl Pod {
    pub(crate) fn new() -> Self {
        let process = Command::new("unshare").args(["-n", "sleep", "3000"]).spawn().unwrap();
        let pod = Self { process };
        let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
        wait_until("the pod has left our namespace", || {
            let sleeps = fs::read(format!("/proc/{}/cmdline", pod.process.id()))
                .is_ok_and(|c| c.starts_with(b"sleep"));
            sleeps && fs::read_link(pod.netns()).is_ok_and(|netns| netns != own)
        });
        pod
    }

    pub(crate) fn netns(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.process.id()).into()
    }

    /// Runs a command inside; it must succeed.
    pub(crate) fn shell(&self, script: &str) -> String {
        run(Command::new("nsenter")
            .arg(format!("--net={}", self.netns().display()))
            .args(["sh", "-c", script]))
    }

    /// Runs `work` on a thread that has entered the pod.
    pub(crate) fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let netns = File::open(self.netns()).unwrap();
        let work = move || {
            nix::sched::setns(&netns, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        std::thread::spawn(work).join().unwrap()
    }

    /// Answers the next connection to the port.
    pub(crate) fn serve(&self, port: u16, text: &'static str) {
        let listener = self.inside(move || TcpListener::bind(("0.0.0.0", port)).unwrap());
        std::thread::spawn(move || answer(&listener, text, 1));
    }

    /// Answers every connection to the port.
    pub(crate) fn serve_many(&self, port: u16, text: &'static str) {
        let listener = self.inside(move || TcpListener::bind(("0.0.0.0", port)).unwrap());
        std::thread::spawn(move || answer(&listener, text, usize::MAX));
    }

    /// The same over both families of addresses.
    pub(crate) fn serve_both(&self, port: u16, text: &'static str) {
        let listener = self.inside(move || TcpListener::bind(("::", port)).unwrap());
        std::thread::spawn(move || answer(&listener, text, usize::MAX));
    }

    /// The same at one of its addresses.
    pub(crate) fn serve_at(&self, address: &'static str, port: u16, text: &'static str) {
        let listener = self.inside(move || TcpListener::bind((address, port)).unwrap());
        std::thread::spawn(move || answer(&listener, text, usize::MAX));
    }

    /// Answers every datagram to the port, at all addresses of version 4.
    pub(crate) fn serve_udp(&self, port: u16, text: &'static str) {
        self.inside(move || drop(serve_udp(SocketAddr::from(([0, 0, 0, 0], port)), text)));
    }

    /// A client inside.
    pub(crate) fn udp_client(&self, server: SocketAddr) -> UdpClient {
        self.inside(move || UdpClient::new(server))
    }

    /// The process that holds it.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Connects from inside and reads everything.
    pub(crate) fn get(&self, address: IpAddr, port: u16) -> String {
        self.inside(move || read_from(address, port, PATIENCE))
            .unwrap_or_else(|error| panic!("no answer from {address}:{port} in the pod: {error}"))
    }

    pub(crate) fn try_get(&self, address: IpAddr, port: u16) -> Option<String> {
        self.inside(move || read_from(address, port, SILENCE)).ok()
    }

    pub(crate) fn is_refused(&self, address: IpAddr, port: u16) -> bool {
        self.inside(move || refuses(address, port))
    }

    pub(crate) fn is_silent(&self, address: IpAddr, port: u16) -> bool {
        self.inside(move || says_nothing(address, port))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // The process may have ended by itself; either way it is reaped here.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn answer(listener: &TcpListener, text: &str, times: usize) {
    for connection in listener.incoming().take(times) {
        // A client that went away is its own test's business.
        let _ = connection.and_then(|mut connection| connection.write_all(text.as_bytes()));
    }
}

/// Answers every datagram with `text`, for as long as the test runs.
pub(crate) fn serve_udp(address: SocketAddr, text: &'static str) -> std::thread::JoinHandle<()> {
    let socket = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        while let Ok((_, client)) = socket.recv_from(&mut [0; 16]) {
            // A client that went away is its own test's business.
            let _ = socket.send_to(text.as_bytes(), client);
        }
    })
}

/// A client that keeps its port, as name servers' clients and log shippers do.
pub(crate) struct UdpClient {
    socket: UdpSocket,
    server: SocketAddr,
}

impl UdpClient {
    pub(crate) fn new(server: SocketAddr) -> Self {
        let any = if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Self { socket, server }
    }

    /// Asks once; nothing is heard where the question or the answer is lost.
    pub(crate) fn ask(&self) -> Option<String> {
        self.socket.send_to(b"?", self.server).ok()?;
        let mut answer = [0; 64];
        let (length, _) = self.socket.recv_from(&mut answer).ok()?;
        Some(String::from_utf8_lossy(answer.get(..length)?).into_owned())
    }
}

/// What a server says, which must be reached within that time; then it may take longer.
fn read_from(address: IpAddr, port: u16, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), patience)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn refuses(address: IpAddr, port: u16) -> bool {
    let refused = TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE);
    refused.is_err_and(|error| error.kind() != io::ErrorKind::TimedOut)
}

fn says_nothing(address: IpAddr, port: u16) -> bool {
    let nothing = TcpStream::connect_timeout(&SocketAddr::new(address, port), SILENCE);
    nothing.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Waits for a condition, at most a minute.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::yield_now();
    }
}
