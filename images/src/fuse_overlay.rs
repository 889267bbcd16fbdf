//! overlayfs in user space, only where the kernel's own refuses.
//!
//! The kernel takes no upper directory that lies on an overlay itself (a node in a container whose data directory is
//! no volume), on NFS, or on a file system without extended attributes; and some kernels have no overlayfs at all.
//! `fuse-overlayfs` reads the same layers and keeps the same upper directory, but for one thing: where it may not make
//! device files it writes deletions as `.wh.NAME`, as archives spell them.
//!
//! Its process lives as long as the mount does, and ends with it.

use crate::error::{Error, ErrorKind, Result};
use crate::mount::Mount;
use rustix::io::Errno;
use std::path::Path;
use std::process::{Command, Stdio};

const PROGRAM: &str = "fuse-overlayfs";
/// What both understand. The others say how the kernel keeps its books.
const OPTIONS: [&str; 3] = ["lowerdir=", "upperdir=", "workdir="];

/// Whether the kernel would not have this overlay for what lies beneath it, and not for one of the options that only
/// newer kernels know.
pub(crate) fn is_refused(overlay: &Mount, error: &Error) -> bool {
    let refusals = [Errno::INVAL, Errno::OPNOTSUPP, Errno::NODEV, Errno::PERM];
    let refusal = |error: &Error| refusals.iter().any(|errno| error.errno() == Some(errno.raw_os_error()));
    if overlay.fs_type != "overlay" || !refusal(error) {
        return false;
    }
    let plain = essential(overlay);
    plain.options.len() == overlay.options.len() || plain.detached().is_err_and(|error| refusal(&error))
}

fn essential(overlay: &Mount) -> Mount {
    let kept =
        |option: &&String| *option == "ro" || OPTIONS.iter().any(|essential| option.starts_with(essential));
    Mount { options: overlay.options.iter().filter(kept).cloned().collect(), ..overlay.clone() }
}

/// Mounts an overlay that the kernel refused, with the words it found for that.
pub(crate) fn mount(overlay: &Mount, target: &Path, refused: Error) -> Result<()> {
    let options = essential(overlay).options.join(",");
    if options.contains('\\') {
        return Err(refused.context(format_args!("{PROGRAM} takes no path with a colon, comma or backslash")));
    }
    let mut command = Command::new(PROGRAM);
    command.args(["-o", &options]).arg(target).current_dir("/").stdin(Stdio::null());
    match command.output() {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => {
            let words = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
            Err(Error::new(ErrorKind::Io, format!("{PROGRAM}: {words}")).context(refused))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(refused.context(format_args!("{PROGRAM}, which could do it, is not installed")))
        }
        Err(error) => Err(Error::io(PROGRAM, error).context(refused)),
    }
}

/// Whether it can be used here.
pub(crate) fn is_installed() -> bool {
    let found = |directory: std::path::PathBuf| directory.join(PROGRAM).is_file();
    Path::new("/dev/fuse").exists()
        && std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(options: &[&str]) -> Mount {
        let options = options.iter().map(ToString::to_string).collect();
        Mount { fs_type: "overlay".into(), source: "overlay".into(), options }
    }

    #[test]
    fn only_refusals_of_overlays_count() {
        let error = |errno: Errno| Error::io("mount", errno);
        let plain = overlay(&["lowerdir=/a:/b", "upperdir=/u", "workdir=/w"]);
        assert!(is_refused(&plain, &error(Errno::INVAL)) && is_refused(&plain, &error(Errno::NODEV)));
        assert!(!is_refused(&plain, &error(Errno::NOENT)) && !is_refused(&plain, &error(Errno::NOSPC)));
        let other = Mount { fs_type: "erofs".into(), ..plain.clone() };
        assert!(!is_refused(&other, &error(Errno::INVAL)));
    }

    #[test]
    fn the_books_of_the_kernel_are_its_own() {
        let given = overlay(&["ro", "lowerdir=/a", "upperdir=/u", "metacopy=off", "volatile", "workdir=/w"]);
        assert_eq!(essential(&given).options, ["ro", "lowerdir=/a", "upperdir=/u", "workdir=/w"]);
    }

    #[test]
    fn odd_paths_are_refused_in_the_kernels_words_too() {
        let odd = overlay(&["lowerdir=/a\\:b"]);
        let error =
            mount(&odd, Path::new("/nowhere"), Error::io("mount", Errno::INVAL)).unwrap_err().to_string();
        assert!(error.contains("colon") && error.contains("Invalid argument"), "{error}");
    }
}
