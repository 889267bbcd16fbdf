//! `run`: create and start in one, and stay until the program ends unless detached.

use super::foreground::{self, Foreground};
use super::launch::{self, Launched};
use super::{Arguments, Flag, Global};
use crate::error::{Context, Result};
use crate::notify_socket::NotifySocket;

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("bundle", Some('b')),
    Flag::value("console-socket", None),
    Flag::value("pidfd-socket", None),
    Flag::value("pid-file", None),
    Flag::switch("detach", Some('d')),
    Flag::switch("keep", None),
    Flag::switch("no-subreaper", None),
    Flag::switch("no-pivot", None),
    Flag::switch("no-new-keyring", None),
    Flag::value("preserve-fds", None),
    Flag::value("timeline", None),
];

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    launch::protect_ourselves(arguments)?;
    start(global, arguments).context(|| "runc run failed")
}

fn start(global: &Global, arguments: &Arguments) -> Result<u8> {
    let mut bundle = launch::read_bundle(arguments)?;
    let detach = arguments.has("detach");
    let socket = launch::console(&bundle, arguments, detach)?;
    let terminal = bundle.spec.process.as_ref().is_some_and(|process| process.terminal);
    let foreground =
        if detach { None } else { Some(Foreground::prepare(terminal, !arguments.has("no-subreaper"))?) };
    let (foreground, console) = foreground::console(foreground, socket);
    let launched = launch::launch(global, arguments, &mut bundle, console, false)?;
    let Launched { container, created, plan } = launched;
    let notify = NotifySocket::bind(&container.directory)?;
    let (child, timeline) = match created.go() {
        Ok(running) => running,
        Err(error) => {
            let cleaned = super::delete::remove(&container, &plan.hooks);
            return Err(error.and(cleaned)).context(|| "unable to start container process");
        }
    };
    if let Some(file) = arguments.path("timeline") {
        timeline.write(&file)?;
    }
    if let Err(error) = super::start::poststart(&container, &plan.hooks) {
        return Err(error.and(super::delete::force(&container, &plan.hooks)));
    }
    // Others may look at and change it while it runs.
    let container = container.unlocked();
    let Some(foreground) = foreground else {
        return notify.map_or(Ok(()), |notify| notify.until_ready(&child)).map(|()| 0);
    };
    let code = foreground.with(notify).wait(&child)?;
    if !arguments.has("keep") {
        super::delete::remove(&container, &plan.hooks)?;
    }
    Ok(code)
}
