//! Tests with a real bus daemon and a real logind, in a mount namespace of their own. The first process is imagined: it
//! knows every unit and starts none, so that a machine that is told to go down stays.

use super::logind::{Logind, MANAGER, Places};
use super::{Ending, Grace};
use crate::kubelet::pods::Workers;
use crate::named_skip::skip;
use crate::system_bus::SystemBus;
use knarr_runtime::dbus::{self, Body, DAEMON};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;

const LOGIND: &str = "/lib/systemd/systemd-logind";
const PATIENCE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(7);

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn started(command: &mut Command) -> Process {
    Process(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

struct Lab {
    places: Places,
    /// Units that the first process was asked to start.
    asked: mpsc::UnboundedReceiver<String>,
    _processes: [Process; 2],
    _directory: tempfile::TempDir,
}

async fn lab() -> Option<Lab> {
    let missing = [LOGIND, "/usr/bin/dbus-daemon"].into_iter().find(|program| !Path::new(program).exists());
    if let Some(missing) = missing {
        skip("real_logind", &format!("{missing} is not installed"));
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let places = Places { bus: directory.path().join("bus"), settings: directory.path().join("settings") };
    std::fs::create_dir(&places.settings).unwrap();
    let config = directory.path().join("bus.conf");
    let policy = "<allow user='*'/><allow own='*'/><allow send_destination='*'/><allow receive_sender='*'/>";
    let text = format!(
        "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context='default'>{policy}</policy></busconfig>",
        places.bus.display()
    );
    std::fs::write(&config, text).unwrap();
    let daemon = started(
        Command::new("dbus-daemon").arg("--config-file").arg(&config).args(["--nofork", "--nopidfile"]),
    );
    let bus = connected(&places.bus).await;
    let (tell, asked) = mpsc::unbounded_channel();
    let logind = started(
        Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-ec", LOGIND_ALONE, "sh"])
            .args([&places.settings, Path::new(LOGIND)])
            .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", places.bus.display())),
    );
    let pid = logind.0.id();
    std::thread::spawn(move || first_process(bus, pid, &tell));
    Some(Lab { places, asked, _processes: [daemon, logind], _directory: directory })
}

const LOGIND_ALONE: &str = "mount -t tmpfs none /run; mkdir -p /run/systemd /run/udev; mount -t tmpfs none /etc/systemd; \
    mkdir /etc/systemd/logind.conf.d; mount --bind $1 /etc/systemd/logind.conf.d; \
    [ ! -d /dev/input ] || mount -t tmpfs none /dev/input; exec $2";

async fn connected(socket: &Path) -> UnixStream {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let connect = async {
        loop {
            ticks.tick().await;
            if let Ok(stream) = UnixStream::connect(socket) {
                return stream;
            }
        }
    };
    tokio::time::timeout(PATIENCE, connect).await.expect("the bus listens")
}

/// Answers for systemd until the bus is gone.
fn first_process(mut bus: UnixStream, logind: u32, tell: &mpsc::UnboundedSender<String>) -> Option<()> {
    bus.write_all(b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n").ok()?;
    let mut byte = [0];
    while byte != *b"\n" {
        bus.read_exact(&mut byte).ok()?;
    }
    let mut name = Body::new("su");
    name.string("org.freedesktop.systemd1").word(0);
    bus.write_all(&dbus::call(&DAEMON, "Hello", 1, &Body::new(""))).ok()?;
    bus.write_all(&dbus::call(&DAEMON, "RequestName", 2, &name)).ok()?;
    loop {
        let mut head = [0; 16];
        bus.read_exact(&mut head).ok()?;
        let mut message = head.to_vec();
        message.resize(dbus::length(&head).unwrap(), 0);
        bus.read_exact(&mut message[16..]).ok()?;
        if message[1] != CALL {
            continue;
        }
        let call = dbus::parse(&message).unwrap();
        let reply = match call.member.as_str() {
            "LoadUnit" => answer(&message, None, "o", &text("/unit")),
            "Get" => answer(&message, None, "v", &[b"\x01s\0\0".to_vec(), text("loaded")].concat()),
            "KillUnit" => {
                let logind = rustix::process::Pid::from_raw(logind.cast_signed()).unwrap();
                rustix::process::kill_process(logind, rustix::process::Signal::HUP).unwrap();
                answer(&message, None, "", &[])
            }
            "StartUnit" => {
                tell.send(call.first_string().unwrap()).ok()?;
                answer(&message, Some("org.test.Stays"), "s", &text("this machine stays"))
            }
            _ => answer(&message, None, "", &[]),
        };
        bus.write_all(&reply).ok()?;
    }
}

const CALL: u8 = 1;

fn text(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes(), &[0]].concat()
}

/// The message that answers a call, or refuses it.
fn answer(call: &[u8], error: Option<&str>, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut message = vec![b'l', if error.is_some() { 3 } else { 2 }, 1, 1];
    message.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    message.extend([call[8], call[9], call[10], call[11], 0, 0, 0, 0]);
    let mut field = |code, kind, value: &[u8]| {
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend([code, 1, kind, 0]);
        message.extend(value);
    };
    field(5, b'u', &call[8..12]);
    field(6, b's', &text(&sender(call)));
    if let Some(error) = error {
        field(4, b's', &text(error));
    }
    if !signature.is_empty() {
        field(8, b'g', &[&[1], signature.as_bytes(), &[0]].concat());
    }
    let fields = u32::try_from(message.len() - 16).unwrap();
    message[12..16].copy_from_slice(&fields.to_le_bytes());
    message.resize(message.len().next_multiple_of(8), 0);
    [message.as_slice(), body].concat()
}

/// Field 7 of the head.
fn sender(message: &[u8]) -> String {
    let word = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 16;
    loop {
        at = usize::next_multiple_of(at, 8);
        let (code, kind) = (message[at], message[at + 2]);
        at += 4;
        let length = match kind {
            b'u' => 4,
            b'g' => usize::from(message[at]) + 2,
            _ => word(at) + 5,
        };
        if code == 7 {
            return String::from_utf8(message[at + 4..at + length - 1].to_vec()).unwrap();
        }
        at += length;
    }
}

async fn power_off(bus: &mut SystemBus) {
    let mut body = Body::new("b");
    body.boolean(false);
    // Until logind is there.
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let off = async {
        while let Err(error) = bus.call(&MANAGER, "PowerOff", &body).await {
            assert!(format!("{error:#}").contains("not provided by any"), "{error:#}");
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, off).await.expect("logind answers");
}

/// Who holds the machine back.
async fn holders(bus: &mut SystemBus) -> Vec<String> {
    let answer = bus.call(&MANAGER, "ListInhibitors", &Body::new("")).await.unwrap();
    let mut arguments = answer.arguments();
    let _length = arguments.word().unwrap();
    let mut all = Vec::new();
    // Each is a structure, which begins at a multiple of eight: `a(ssssuu)`.
    arguments.align(8);
    while let Ok(what) = arguments.string() {
        let rest = [(); 3].map(|()| arguments.string().unwrap());
        let _user_and_process = (arguments.word().unwrap(), arguments.word().unwrap());
        arguments.align(8);
        all.push(format!("{what} {}", rest.join(" ")));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_waits_for_its_pods() {
    let Some(mut lab) = lab().await else { return };
    let grace = Grace { total: GRACE, critical: Duration::ZERO };
    let ending = Ending::new(Workers::default(), None, grace);
    let mut going_down = ending.going_down();
    let mut bus = SystemBus::connect(&lab.places.bus).await.unwrap().unwrap();
    let guard = tokio::spawn(ending.clone().guard(lab.places.clone()));
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let ours = "shutdown knarr pods need time to end delay";
    tokio::time::timeout(PATIENCE, async {
        for round in 0..2 {
            while !ending.would_be_told() || holders(&mut bus).await != [ours] {
                ticks.tick().await;
            }
            ending.with_agent().await.unwrap();
            let before = *going_down.borrow_and_update();
            assert!(!before, "round {round}: an agent that ends is not a machine that does");
            power_off(&mut bus).await;
            assert_eq!(lab.asked.recv().await.unwrap(), "poweroff.target");
            // The node said that it goes down before it let go, and perhaps already that it does not.
            going_down.changed().await.unwrap();
            // The unit could not be started.
            going_down.wait_for(|down| !*down).await.unwrap();
        }
    })
    .await
    .expect("logind and we understand each other");
    let settings = std::fs::read_to_string(lab.places.settings.join("99-knarr.conf")).unwrap();
    assert!(settings.ends_with("[Login]\nInhibitDelayMaxSec=7\n"), "{settings}");
    guard.abort();
}

#[tokio::test]
async fn a_machine_without_a_bus_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let places = Places { bus: directory.path().join("bus"), settings: directory.path().into() };
    assert!(Logind::connect(&places).await.unwrap().is_none());
}
