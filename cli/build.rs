//! How `knarr` is linked: the 170,000 places in it that hold an address are listed in 50 KB, not in 4 MB.
//!
//! A program that may lie anywhere in memory finds its own addresses when it starts, by a list. The packed form of that
//! list (DT_RELR) is read by glibc from 2.36 on; where an older one is linked in, the long form stays.

use std::process::Command;

/// The first glibc that reads it.
const READS_PACKED: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if builds_for_this_machine() && glibc().is_some_and(|version| version >= READS_PACKED) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

fn builds_for_this_machine() -> bool {
    std::env::var("HOST").is_ok_and(|host| std::env::var("TARGET").is_ok_and(|target| host == target))
}

/// `glibc 2.36`
fn glibc() -> Option<(u32, u32)> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
