//! `knarr login` and `knarr logout`: a user's name and password for a registry, kept where Docker keeps them.

use crate::args::Login;
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, bail, ensure};
use knarr_images::{Credentials, forget_login, keep_login};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{IsTerminal, Read, Write};

/// A password is no longer than this.
const MAX_PASSWORD: u64 = 64 << 10;

/// Asks for what is missing, lets the registry judge it, and keeps it.
pub(crate) async fn run(settings: &Settings, arguments: Login) -> anyhow::Result<()> {
    if arguments.password.is_some() {
        output::complain("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let registry = arguments.server.clone();
    let credentials = tokio::task::spawn_blocking(move || ask(arguments)).await??;
    crate::image::open(settings)?.check_login(&registry, credentials.clone()).await?;
    let (server, kept) = (registry.clone(), credentials);
    tokio::task::spawn_blocking(move || keep_login(&server, &kept)).await??;
    output::line("Login Succeeded");
    Ok(())
}

/// Forgets what is kept.
pub(crate) async fn forget(server: String) -> anyhow::Result<()> {
    let registry = server.clone();
    if tokio::task::spawn_blocking(move || forget_login(&registry)).await?? {
        output::line(&format!("Removing login credentials for {server}"));
    } else {
        output::line(&format!("Not logged in to {server}"));
    }
    Ok(())
}

fn ask(arguments: Login) -> anyhow::Result<Credentials> {
    if arguments.password_stdin {
        let user = arguments.username.context("Must provide --username with --password-stdin")?;
        let mut password = String::new();
        std::io::stdin().take(MAX_PASSWORD).read_to_string(&mut password).context("read the password")?;
        return named(user, password.trim_end_matches(['\n', '\r']).to_owned());
    }
    let missing = arguments.username.is_none() || arguments.password.is_none();
    if missing && !std::io::stdin().is_terminal() {
        bail!("Cannot perform an interactive login from a non TTY device");
    }
    let user = arguments.username.map_or_else(|| prompt("Username: "), Ok)?;
    let password = arguments.password.map_or_else(secret, Ok)?;
    named(user, password)
}

fn named(user: String, password: String) -> anyhow::Result<Credentials> {
    ensure!(!user.is_empty(), "username is empty");
    ensure!(!user.contains(':'), "username {user:?}: may not contain a colon");
    ensure!(!password.is_empty(), "password is empty");
    Ok(Credentials::basic(user, password))
}

fn prompt(question: &str) -> anyhow::Result<String> {
    let mut terminal = std::io::stderr();
    terminal.write_all(question.as_bytes()).and_then(|()| terminal.flush())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim_end_matches(['\n', '\r']).to_owned())
}

/// As `prompt`, unseen.
fn secret() -> anyhow::Result<String> {
    let _hidden = Hidden::enter()?;
    let answer = prompt("Password: ")?;
    output::complain("");
    Ok(answer)
}

/// What is typed is not shown; it is again on drop.
struct Hidden {
    before: Termios,
}

impl Hidden {
    fn enter() -> anyhow::Result<Self> {
        let before = tcgetattr(std::io::stdin()).context("tcgetattr")?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Now, &hidden).context("tcsetattr")?;
        Ok(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // The terminal may be gone; there is nobody left to tell.
        let _gone = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
