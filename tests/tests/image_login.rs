//! Logins: what one tool keeps, the other ones find.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins::{self, Said};
use knarr_tests::image_lab::ImageLab;
use knarr_tests::registry::Registry;
use std::process::Command;

/// Runs a script with a store, a registry that asks who one is, and an empty home: `K` is knarr, `R` the registry.
fn script(lab: &ImageLab, registry: &Registry, script: &str) -> Said {
    let mut knarr = lab.command(&[]);
    let program = knarr.get_program().to_string_lossy().into_owned();
    let words: Vec<String> = knarr.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let head = format!("K() {{ {program} {} \"$@\"; }}\nR=127.0.0.1:{}\n", words.join(" "), registry.port);
    knarr = Command::new("sh");
    knarr.arg("-c").arg(head + script).current_dir(lab.path(""));
    knarr.env("HOME", lab.path("home")).env_remove("DOCKER_CONFIG").env_remove("REGISTRY_AUTH_FILE");
    bins::run(knarr.env("XDG_RUNTIME_DIR", lab.path("run")))
}

#[test]
fn a_login_opens_the_registry_until_the_logout() {
    let lab = ImageLab::new();
    let registry = Registry::with_login(&lab.path("registry"));
    let said = script(
        &lab,
        &registry,
        "K image push base:1 $R/base:1 2>&1 | grep -o 'no basic auth credentials'
         printf 'wrong\\n' | K login -u user --password-stdin $R 2>&1 | sed \"s/$R/HOST/\"; ls -A home 2>&1
         printf 'secret\\n' | K login -u user --password-stdin $R; stat -c %a home/.docker/config.json
         K image push base:1 $R/base:1 2>/dev/null | grep -o 'digest: sha256:'
         K image tags $R/base
         skopeo inspect --authfile home/.docker/config.json --tls-verify=false docker://$R/base:1 >/dev/null && echo skopeo reads it
         K logout $R | sed \"s/$R/HOST/\"; K logout $R | sed \"s/$R/HOST/\"
         K image tags $R/base 2>&1 | grep -o 'no basic auth credentials'",
    );
    let expected = "no basic auth credentials\n\
        knarr: login attempt to http://HOST/v2/ failed with status: 401 Unauthorized\n\
        ls: cannot access 'home': No such file or directory\n\
        Login Succeeded\n600\ndigest: sha256:\n1\nskopeo reads it\n\
        Removing login credentials for HOST\nNot logged in to HOST\nno basic auth credentials\n";
    assert_eq!(said.out, expected, "{said:?}");
}

#[test]
fn what_others_keep_is_found_and_kept_where_they_look() {
    let lab = ImageLab::new();
    let registry = Registry::with_login(&lab.path("registry"));
    let said = script(
        &lab,
        &registry,
        "mkdir -p home run
         skopeo login -u user -p secret --tls-verify=false --authfile run/theirs.json $R >/dev/null
         REGISTRY_AUTH_FILE=run/theirs.json K image push base:1 $R/base:1 2>/dev/null | grep -o 'digest: sha256:'
         REGISTRY_AUTH_FILE=run/ours.json K login -u user -p secret $R 2>/dev/null
         skopeo login --get-login --authfile run/ours.json $R
         mkdir bin; PATH=$PWD/bin:$PATH
         printf '#!/bin/sh\\ncase $1 in store) cat >kept;; get) cat >/dev/null; cat kept;; erase) rm kept;; esac' >bin/docker-credential-box
         chmod +x bin/docker-credential-box; mkdir home/.docker; echo '{\"credsStore\": \"box\"}' >home/.docker/config.json
         K login -u user -p secret $R 2>/dev/null; grep -c secret kept; cat home/.docker/config.json
         K image tags $R/base; K logout $R >/dev/null; ls kept 2>&1
         K login $R 2>&1; K login --password-stdin $R 2>&1 </dev/null; K login -u a:b -p c $R 2>&1 | tail -1",
    );
    let expected = "digest: sha256:\nLogin Succeeded\nuser\nLogin Succeeded\n1\n{\"credsStore\": \"box\"}\n1\n\
        ls: cannot access 'kept': No such file or directory\n\
        knarr: Cannot perform an interactive login from a non TTY device\n\
        knarr: Must provide --username with --password-stdin\n\
        knarr: username \"a:b\": may not contain a colon\n";
    assert_eq!(said.out, expected, "{said:?}");
}
