//! A way to the target of the volume's own: a copy of one of open-iscsi's interfaces, with the initiator's name that the
//! volume asks for.

use super::{Disk, PATIENCE};
use crate::kubelet::program;
use std::collections::BTreeMap;

/// Makes the disk's interface, if it is to have one of its own; making it again is harmless.
pub(super) async fn make(disk: &Disk) -> Result<(), String> {
    if disk.initiator.is_empty() {
        return Ok(());
    }
    let shown = admin(&disk.model, &["-o", "show"]).await?;
    let mut settings = settings(&shown);
    settings.insert("iface.initiatorname".to_owned(), disk.initiator.clone());
    let present = admin(&disk.interface, &["-o", "show"]).await.is_ok();
    if !present {
        admin(&disk.interface, &["-o", "new"]).await?;
    }
    for (name, value) in &settings {
        admin(&disk.interface, &["-o", "update", "-n", name, "-v", value]).await?;
    }
    Ok(())
}

/// Removes it again.
pub(super) async fn remove(disk: &Disk) {
    if !disk.initiator.is_empty()
        && let Err(error) = admin(&disk.interface, &["-o", "delete"]).await
    {
        tracing::warn!(target = disk.target, "{error}");
    }
}

async fn admin(interface: &str, rest: &[&str]) -> Result<String, String> {
    let named = ["-m", "iface", "-I", interface];
    let arguments: Vec<String> = named.iter().chain(rest).map(|&word| word.to_owned()).collect();
    let ended = program::succeed("iscsiadm", &arguments, PATIENCE).await;
    ended.map_err(|failed| {
        format!("iscsi: interface {interface}: {} ({})", failed.output.trim(), failed.status)
    })
}

/// The settings that an interface has and another may take over.
fn settings(shown: &str) -> BTreeMap<String, String> {
    let pairs = shown.lines().filter_map(|line| line.split_once(" = "));
    pairs
        .filter(|(name, value)| {
            name.starts_with("iface.") && *name != "iface.iscsi_ifacename" && *value != "<empty>"
        })
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_taken_over_but_the_name() {
        let shown = "# BEGIN RECORD 2.1.8\niface.iscsi_ifacename = default\niface.net_ifacename = <empty>\n\
                     iface.transport_name = tcp\nother = x\n# END RECORD\n";
        let found = settings(shown);
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("iface.transport_name".to_owned(), "tcp".to_owned())]
        );
    }
}
