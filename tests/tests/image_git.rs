//! Git repositories and URLs as sources of a build: of ADD, and as contexts.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins::{self, Said};
use knarr_tests::git_server::{COMMITTED, GitServer};
use knarr_tests::image_lab::{ImageLab, listing};
use knarr_tests::web_server::WebServer;
use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

/// A lab, and a server of a repository `app` with a branch, tags of both kinds, and another repository in it.
fn labs() -> (ImageLab, GitServer) {
    let lab = ImageLab::new();
    let server = GitServer::start(&lab.path("repositories"));
    server.commit("lib", &[("lib.txt", "library")]);
    server.git("app", &["submodule", "--quiet", "add", "../lib", "vendored"]);
    std::fs::write(server.path("app/tool"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(server.path("app/tool"), PermissionsExt::from_mode(0o755)).unwrap();
    symlink("README", server.path("app/link")).unwrap();
    server.commit("app", &[("README", "first"), ("src/main.txt", "main"), ("src/deep/x", "x")]);
    server.git("app", &["tag", "plain"]);
    server.git("app", &["tag", "-a", "v1", "-m", "one"]);
    server.git("app", &["checkout", "--quiet", "-b", "feature/x"]);
    server.commit("app", &[("README", "feature")]);
    server.git("app", &["checkout", "--quiet", "main"]);
    server.commit("app", &[("README", "second")]);
    (lab, server)
}

fn build(lab: &ImageLab, dockerfile: &str, more: &[&str]) -> Said {
    lab.file("Dockerfile", dockerfile);
    let root = lab.path("out");
    drop(std::fs::remove_dir_all(&root));
    lab.knarr(&[&["build", "-t", "made:1", "-o", root.to_str().unwrap()], more, &["context"]].concat())
}

/// What is in an image besides its base.
fn built(lab: &ImageLab, dockerfile: &str) -> BTreeSet<String> {
    build(lab, dockerfile, &[]).ok();
    listing(&lab.path("out"))
}

fn read(lab: &ImageLab, file: &str) -> String {
    std::fs::read_to_string(lab.path("out").join(file)).unwrap()
}

#[test]
fn add_of_a_repository() {
    let (lab, server) = labs();
    let url = server.url("app");
    let found = built(
        &lab,
        &format!(
            "FROM base:1\nENV WHERE={url}\nADD $WHERE /all\nADD {url}#plain /plain\nADD {url}#v1:src /src/\n\
             ADD --chown=www --chmod=700 --exclude=*.txt {url}?branch=feature/x&subdir=src /some\n\
             ADD {url}#feature/x /feature/\nADD {url}?submodules=false#main /alone\nWORKDIR /here\nADD {url}#:src/deep .\n"
        ),
    );
    for line in [
        "all drwxr-xr-x 0:0".to_owned(),
        "all/README -rw-r--r-- 0:0 6".to_owned(),
        "all/tool -rwxr-xr-x 0:0 10".to_owned(),
        "all/link lrwxrwxrwx 0:0 6 README".to_owned(),
        "all/vendored/lib.txt -rw-r--r-- 0:0 7".to_owned(),
        "plain/README -rw-r--r-- 0:0 5".to_owned(),
        "src/main.txt -rw-r--r-- 0:0 4".to_owned(),
        "src/deep/x -rw-r--r-- 0:0 1".to_owned(),
        "some/deep/x -rwx------ 33:44 1".to_owned(),
        "feature/README -rw-r--r-- 0:0 7".to_owned(),
        "here/x -rw-r--r-- 0:0 1".to_owned(),
    ] {
        assert!(found.iter().any(|known| known.starts_with(&line)), "{line}: {found:#?}");
    }
    assert!(!found.iter().any(|known| known.contains(".git ") || known.contains(".git/")), "{found:#?}");
    assert!(!found.iter().any(|known| known.starts_with("some/main.txt")), "{found:#?}");
    assert!(!found.iter().any(|known| known.starts_with("alone/vendored/lib.txt")), "{found:#?}");
    for file in ["all/README", "all/tool", "all/vendored/lib.txt", "src/deep"] {
        assert_eq!(
            std::fs::symlink_metadata(lab.path("out").join(file)).unwrap().mtime(),
            COMMITTED,
            "{file}"
        );
    }
}

#[test]
fn a_repository_is_fetched_again_when_its_branch_moved() {
    let (lab, server) = labs();
    let url = server.url("app");
    let dockerfile = format!(
        "FROM base:1 AS other\nADD {url}#main /g\nFROM base:1\nADD {url} /f\nRUN cat /f/README > /h\n\
         COPY --from=other /g /g\n"
    );
    let first = build(&lab, &dockerfile, &[]).ok();
    assert_eq!((read(&lab, "f/README"), read(&lab, "g/README")), ("second".into(), "second".into()));
    let again = build(&lab, &dockerfile, &[]);
    assert_eq!(again.err.matches("CACHED").count(), 4, "{again:?}");
    assert_eq!(again.ok(), first, "the same commit gives the same image");
    let third = server.commit("app", &[("README", "third")]);
    build(&lab, &dockerfile, &[]).ok();
    assert_eq!((read(&lab, "f/README"), read(&lab, "h")), ("third".into(), "third".into()));
    let tag = server.git("app", &["rev-parse", "v1"]);
    // A commit that is said needs no server, once it was there.
    let pinned = format!("FROM base:1\nADD {url}#{third} /f\nADD --checksum={} {url}#v1 /v\n", &tag[..12]);
    build(&lab, &pinned, &[]).ok();
    assert_eq!((read(&lab, "f/README"), read(&lab, "v/README")), ("third".into(), "first".into()));
    let pinned = format!("FROM base:1\nADD {url}?fetch-by-commit&commit={third} /f\n");
    drop(server);
    assert!(build(&lab, &pinned, &[]).err.contains("CACHED"));
    let said = build(&lab, &pinned, &["--no-cache"]).failed();
    assert!(said.contains(&format!("Dockerfile:2: failed to fetch remote {url}: git fetch: ")), "{said}");
}

#[test]
fn git_itself_may_stay() {
    let (lab, server) = labs();
    let url = server.url("app");
    let lines = format!(
        "FROM base:1\nADD --keep-git-dir {url}#v1 /tag\nADD --keep-git-dir=true {url} /branch\n\
         ADD --keep-git-dir=false {url} /none\nADD {url}?keep-git-dir#feature/x /asked\n"
    );
    build(&lab, &lines, &[]).ok();
    let git = |place: &str, arguments: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(lab.path("out").join(place)).args(["-c", "safe.directory=*"]).args(arguments);
        bins::run(&mut git).ok().trim().to_owned()
    };
    for (place, name) in [("tag", "v1^{commit}"), ("branch", "main"), ("asked", "feature/x")] {
        assert_eq!(git(place, &["rev-parse", "HEAD"]), server.git("app", &["rev-parse", name]), "{place}");
        assert_eq!(git(place, &["status", "--porcelain", "--ignore-submodules"]), "", "{place}");
        assert_eq!(git(place, &["remote", "get-url", "origin"]), url);
    }
    assert_eq!(git("tag", &["describe"]), "v1");
    assert!(!lab.path("out/none/.git").exists() && !lab.path("out/branch/.git/FETCH_HEAD").exists());
}

#[test]
fn what_is_not_fetched_says_why() {
    let (lab, server) = labs();
    symlink("/etc", server.path("app/etc")).unwrap();
    server.commit("app", &[]);
    let victim = lab.path("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("secret"), "secret").unwrap();
    bins::run(Command::new("git").arg("-C").arg(&victim).args(["init", "--quiet"])).ok();
    let hostile = format!("[submodule \"x\"]\n\tpath = x\n\turl = file://{}\n", victim.display());
    server.commit("hostile", &[(".gitmodules", &hostile)]);
    let commit = server.git("hostile", &["rev-parse", "HEAD"]);
    server.git("hostile", &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},x")]);
    server.git("hostile", &["commit", "--quiet", "-m", "a submodule"]);
    let (url, hostile, none) = (server.url("app"), server.url("hostile"), server.url("none"));
    let zeros = "0".repeat(40);
    for (line, words) in [
        (
            format!("ADD {url}#none /x"),
            format!("failed to fetch remote {url}: repository does not contain ref none"),
        ),
        (
            format!("ADD {none} /x"),
            format!("failed to fetch remote {none}: git ls-remote: exit status: 128: "),
        ),
        (
            format!("ADD {url}#{zeros} /x"),
            format!("failed to fetch remote {url}: git fetch: exit status: 128: "),
        ),
        (format!("ADD {url}#:none /x"), "invalid subdir none: No such file or directory".to_owned()),
        (format!("ADD {url}#:README /x"), "invalid subdir README: not a directory".to_owned()),
        (format!("ADD {url}#:etc /x"), "invalid subdir etc: not a directory".to_owned()),
        (format!("ADD --checksum=abc123 {url} /x"), "expected checksum to match abc123, got ".to_owned()),
        (format!("ADD --checksum=x {url} /x"), "expected hex commit hash".to_owned()),
        (format!("ADD {url}#--upload-pack=touch /x"), "invalid git ref \"--upload-pack=touch\"".to_owned()),
        (format!("ADD --keep-git-dir {url}?keep-git-dir=0 /x"), "inconsistent keep-git-dir".to_owned()),
        (format!("COPY {url} /x"), "source can't be a git ref for COPY".to_owned()),
        (format!("ADD {hostile} /x"), "failed to update submodules: ".to_owned()),
        ("ADD ssh://-oProxyCommand=touch/x /x".to_owned(), "invalid git URL".to_owned()),
    ] {
        let said = build(&lab, &format!("FROM base:1\n{line}\n"), &[]).failed();
        assert!(said.contains("Dockerfile:2: ") && said.contains(&words), "{line}: {said}");
    }
    assert_eq!(std::fs::read_dir(lab.path("data/images/staging")).unwrap().count(), 0);
}

/// A repository as files behind a web server that wants to know who asks.
#[test]
fn a_repository_behind_a_password() {
    let (lab, server) = labs();
    let served = lab.path("web");
    std::fs::create_dir(&served).unwrap();
    std::fs::write(served.join("httpd.conf"), "/:me:p@ss\n").unwrap();
    server.git("lib", &["clone", "--quiet", "--bare", ".", served.join("lib.git").to_str().unwrap()]);
    bins::run(Command::new("git").arg("-C").arg(served.join("lib.git")).arg("update-server-info")).ok();
    let web = WebServer::start(&served);
    let url = web.url("lib.git");
    let dockerfile = format!("FROM base:1\nADD {url} /lib\n");
    let said = build(&lab, &dockerfile, &[]).failed();
    assert!(said.contains("could not read Username"), "{said}");
    let token = lab.path("token");
    std::fs::write(&token, "basic bWU6cEBzcw==\n").unwrap();
    let secret = format!("id=GIT_AUTH_HEADER.127.0.0.1,src={}", token.display());
    build(&lab, &dockerfile, &["--secret", &secret]).ok();
    assert_eq!(read(&lab, "lib/lib.txt"), "library");
    let known = url.replace("http://", "http://me:p%40ss@");
    build(&lab, &format!("FROM base:1\nADD --keep-git-dir {known} /known\n"), &[]).ok();
    assert_eq!(read(&lab, "known/lib.txt"), "library");
    let kept =
        bins::run(Command::new("grep").arg("-rlE").arg("p@ss|p%40ss|bWU6cEBzcw").arg(lab.path("out/known")));
    assert_eq!(kept.out, "", "a password is nowhere in what was fetched");
    let wrong = known.replace("p%40ss", "p%40sz");
    let said = build(&lab, &format!("FROM base:1\nADD {wrong} /known\n"), &[]).failed();
    assert!(said.contains(&format!("failed to fetch remote {url}: ")) && !said.contains("p@sz"), "{said}");
}

#[test]
fn contexts_that_are_somewhere_else() {
    let (lab, server) = labs();
    let dockerfile = "FROM base:1\nCOPY . /files\nCOPY --from=named / /named\n";
    server.commit(
        "app",
        &[
            ("src/Dockerfile", dockerfile),
            ("src/other", "FROM base:1\nCOPY main.txt /other\n"),
            ("src/.dockerignore", "deep\nother\n"),
        ],
    );
    let root = lab.path("out");
    let build = |arguments: &[&str]| {
        drop(std::fs::remove_dir_all(&root));
        lab.knarr(&[&["build", "-t", "made:1", "-o", root.to_str().unwrap()], arguments].concat())
    };
    let (context, named) =
        (format!("{}#main:src", server.url("app")), format!("named={}", server.url("lib")));
    build(&["--build-context", &named, &context]).ok();
    let found = listing(&root);
    for line in ["files/main.txt ", "files/Dockerfile ", "named/lib.txt "] {
        assert!(found.iter().any(|known| known.starts_with(line)), "{line}: {found:#?}");
    }
    assert!(!root.join("files/deep").exists() && !root.join("files/other").exists());
    build(&["-f", "other", &context]).ok();
    assert_eq!(read(&lab, "other"), "main");
    let said = build(&["-f", "../../../etc/hostname", &context]).failed();
    assert!(said.contains("failed to read dockerfile: open ../../../etc/hostname"), "{said}");
    server.commit("app", &[("Dockerfile", "FROM base:1\nCOPY .git/HEAD /head\n")]);
    let whole = server.url("app");
    build(&[&whole]).failed();
    build(&["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &whole]).ok();
    assert_eq!(read(&lab, "head").trim(), server.git("app", &["rev-parse", "HEAD"]));

    let web = WebServer::start(&lab.path("web"));
    let source = server.path("app/src");
    bins::run(Command::new("tar").args(["-czf"]).arg(lab.path("web/c.tgz")).arg("-C").arg(&source).arg("."))
        .ok();
    web.file("alone", b"FROM base:1\nRUN echo alone > /alone\n", 5);
    let archive = format!("named={}", web.url("c.tgz"));
    build(&["--build-context", &archive, &web.url("c.tgz")]).ok();
    assert!(root.join("files/main.txt").exists() && root.join("named/main.txt").exists());
    build(&[&web.url("alone")]).ok();
    assert_eq!(read(&lab, "alone"), "alone\n");
    let said = build(&[&web.url("none")]).failed();
    assert!(said.contains(&format!("{}: invalid response status 404", web.url("none"))), "{said}");
}
