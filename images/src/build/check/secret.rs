//! Names of variables that look as if they hold a secret.

const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

/// Words that tell otherwise.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// By the words between underscores.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let says = |words: &[&str]| name.split('_').any(|word| words.contains(&word));
    says(&SECRET) && !says(&HARMLESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_tell() {
        for name in ["SECRET_PASSPHRASE", "Password", "super_duper_secret_token", "git_key", "APIKEY"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["PUBLIC_KEY", "password_file", "AUTH_MODULE_VERSION", "sunflower", "KEYS", "passwords"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
