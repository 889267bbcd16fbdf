//! The signal that asks a container to end: CRI's, else the image's, else SIGTERM; in CRI's enumeration and in the
//! words that `kill` of any OCI runtime takes.

use knarr_cri::v1::Signal;

/// What `kill` is given.
pub(crate) fn choose(cri: Signal, image: &str) -> String {
    match (cri, image) {
        (Signal::RuntimeDefault, "") => "SIGTERM".into(),
        (Signal::RuntimeDefault, image) => image.to_owned(),
        (cri, _) => words(cri),
    }
}

/// `SIGRTMINPLUS3` is written `SIGRTMIN+3` everywhere but in CRI.
fn words(signal: Signal) -> String {
    let name = signal.as_str_name().trim_start_matches("SIGNAL_");
    name.replacen("PLUS", "+", 1).replacen("MINUS", "-", 1)
}

/// CRI's name of a signal given by name or number; the default where there is none.
pub(crate) fn to_cri(text: &str) -> Signal {
    if let Ok(number) = text.parse::<i32>() {
        return by_number(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.trim_start_matches("SIG").replacen('+', "PLUS", 1).replacen('-', "MINUS", 1);
    Signal::from_str_name(&format!("SIGNAL_SIG{name}")).unwrap_or_default()
}

fn by_number(number: i32) -> Signal {
    if number >= 34 {
        // CRI numbers the real-time signals in the kernel's order, one higher.
        return Signal::try_from(number + 1).unwrap_or_default();
    }
    let name = nix::sys::signal::Signal::try_from(number).map(nix::sys::signal::Signal::as_str);
    name.map(|name| Signal::from_str_name(&format!("SIGNAL_{name}")).unwrap_or_default()).unwrap_or_default()
}

/// The kernel's number of a signal given by name or number; none where there is no such signal.
pub(crate) fn number(text: &str) -> Option<i32> {
    let wanted = to_cri(text);
    (1..=64).find(|number| wanted != Signal::RuntimeDefault && by_number(*number) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cri_goes_before_the_image() {
        assert_eq!(choose(Signal::RuntimeDefault, ""), "SIGTERM");
        assert_eq!(choose(Signal::RuntimeDefault, "SIGQUIT"), "SIGQUIT");
        assert_eq!(choose(Signal::Sigusr1, "SIGQUIT"), "SIGUSR1");
        assert_eq!(choose(Signal::Sigrtminplus3, ""), "SIGRTMIN+3");
        assert_eq!(choose(Signal::Sigrtmaxminus2, ""), "SIGRTMAX-2");
    }

    #[test]
    fn numbers_are_the_kernels() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("kill", Some(9)),
            ("10", Some(10)),
            ("SIGRTMIN+3", Some(37)),
            ("none", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn every_spelling_is_understood() {
        for (text, signal) in [
            ("SIGTERM", Signal::Sigterm),
            ("term", Signal::Sigterm),
            ("15", Signal::Sigterm),
            ("3", Signal::Sigquit),
            ("9", Signal::Sigkill),
            ("SIGRTMIN+3", Signal::Sigrtminplus3),
            ("37", Signal::Sigrtminplus3),
            ("nonsense", Signal::RuntimeDefault),
        ] {
            assert_eq!(to_cri(text), signal, "{text}");
        }
    }
}
