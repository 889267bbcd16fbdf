//! `knarr image rm`, `knarr rmi`: removes names; an image goes with its last one. An id removes all names at once.
//!
//! What a container of `knarr run` stands on is not taken from under its name: Docker's refusals, in its words.

use super::listed::short_id;
use super::names;
use crate::args::RmImages;
use crate::events::{Journal, familiar};
use crate::output;
use crate::standalone::Use;
use anyhow::bail;
use knarr_images::{Image, ImageStore};
use std::collections::BTreeSet;

/// Removes every one it can, then reports those it could not.
pub(crate) fn run(
    store: &ImageStore,
    journal: &Journal,
    uses: &[Use],
    arguments: &RmImages,
) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for name in &arguments.names {
        let image = match store.find(name)? {
            Some(image) => image,
            // Wanted gone, and gone.
            None if arguments.force => {
                output::complain(&super::no_such(name).to_string());
                continue;
            }
            None => {
                failures.push(super::no_such(name).to_string());
                continue;
            }
        };
        if let Err(error) = super::expect_platform(store, &image, name, arguments.platform.as_deref()) {
            failures.push(format!("{error:#}"));
            continue;
        }
        let users: Vec<&Use> = uses.iter().filter(|user| user.image_id == image.id).collect();
        let request = Removal { store, journal, image: &image, users: &users, force: arguments.force };
        if let Err(error) = request.perform(name) {
            failures.push(format!("{error:#}"));
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\n")) }
}

struct Removal<'a> {
    store: &'a ImageStore,
    journal: &'a Journal,
    image: &'a Image,
    users: &'a [&'a Use],
    force: bool,
}

impl Removal<'_> {
    fn perform(&self, name: &str) -> anyhow::Result<()> {
        let id = self.image.id.trim_start_matches("sha256:");
        if id.starts_with(name.trim_start_matches("sha256:")) { self.by_id() } else { self.by_name(name) }
    }

    fn by_id(&self) -> anyhow::Result<()> {
        let id = short_id(&self.image.id);
        let why =
            |how: &str, what: &str| format!("conflict: unable to delete {id} ({how}) - image is {what}");
        if let Some(user) = self.users.iter().find(|user| user.running) {
            let what = format!("being used by running container {}", short_id(&user.container_id));
            bail!(why("cannot be forced", &what));
        }
        let repositories: BTreeSet<&str> = self.image.tags.iter().map(|tag| names::split(tag).0).collect();
        if repositories.len() > 1 && !self.force {
            bail!(why("must be forced", "referenced in multiple repositories"));
        }
        if let Some(user) = self.users.first().filter(|_| !self.force) {
            let what = format!("being used by stopped container {}", short_id(&user.container_id));
            bail!(why("must be forced", &what));
        }
        self.store.remove(self.image)?;
        self.image.tags.iter().for_each(|tag| self.untagged(tag));
        self.gone();
        Ok(())
    }

    fn by_name(&self, name: &str) -> anyhow::Result<()> {
        let last = self.image.tags.len() <= 1;
        if last
            && !self.force
            && let Some(user) = self.users.first()
        {
            let (container, image) = (short_id(&user.container_id), short_id(&self.image.id));
            bail!(
                "conflict: unable to remove repository reference \"{name}\" (must force) - \
                 container {container} is using its referenced image {image}"
            );
        }
        if last && !self.users.is_empty() {
            // It stays, without a name, for as long as somebody stands on it.
            self.store.take_name(name)?;
            self.untagged(&familiar(name));
            return Ok(());
        }
        self.store.untag(name)?;
        self.untagged(&familiar(name));
        if self.store.find(&self.image.id)?.is_none() {
            self.gone();
        }
        Ok(())
    }

    fn untagged(&self, name: &str) {
        let name = names::short(name);
        self.journal.image("untag", &self.image.id, name);
        output::line(&format!("Untagged: {name}"));
    }

    fn gone(&self) {
        for digest in &self.image.digests {
            output::line(&format!("Untagged: {}", names::short(digest)));
        }
        self.journal.image("delete", &self.image.id, &self.image.id);
        output::line(&format!("Deleted: {}", self.image.id));
    }
}
