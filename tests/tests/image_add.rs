//! ADD and COPY where they meet more than files of the context: the web, archives, and links of the image.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins::{self, Said};
use knarr_tests::image_lab::{ImageLab, listing};
use knarr_tests::web_server::WebServer;
use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

/// A lab and a web server.
fn labs() -> (ImageLab, WebServer) {
    let lab = ImageLab::new();
    let server = WebServer::start(&lab.path("web"));
    (lab, server)
}

fn build(lab: &ImageLab, dockerfile: &str) -> Said {
    lab.file("Dockerfile", dockerfile);
    let root = lab.path("out");
    drop(std::fs::remove_dir_all(&root));
    lab.knarr(&["build", "-t", "made:1", "-o", root.to_str().unwrap(), "context"])
}

/// What is in an image besides its base.
fn built(lab: &ImageLab, dockerfile: &str) -> BTreeSet<String> {
    build(lab, dockerfile).ok();
    listing(&lab.path("out"))
}

fn has(found: &BTreeSet<String>, expected: &[&str]) {
    for line in expected {
        assert!(found.iter().any(|known| known.starts_with(line)), "{line}: {found:#?}");
    }
}

/// A packed archive of one file `inner/file`.
fn archive(lab: &ImageLab, name: &str, flag: &str) -> Vec<u8> {
    std::fs::create_dir_all(lab.path("tree/inner")).unwrap();
    std::fs::write(lab.path("tree/inner/file"), "x").unwrap();
    let path = lab.path(name);
    let mut tar = Command::new("tar");
    bins::run(tar.arg(flag).arg(&path).arg("-C").arg(lab.path("tree")).arg("inner/file")).ok();
    std::fs::read(path).unwrap()
}

#[test]
fn files_of_the_web() {
    let (lab, server) = labs();
    server.file("a/one.txt", b"one", 784_111_777).file("two words", b"two", 5).file(
        "d/index.html",
        b"index",
        5,
    );
    let packed = archive(&lab, "x.tar.gz", "-czf");
    server.file("x.tar.gz", &packed, 5);
    std::fs::write(lab.path("context/x.tar.gz"), &packed).unwrap();
    let (one, two, index) = (server.url("a/one.txt?v=1"), server.url("two%20words"), server.url("d"));
    let (none, tar) = (server.url(""), server.url("x.tar.gz"));
    let digest = "sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
    let found = built(
        &lab,
        &format!(
            "FROM base:1\nENV ONE={one}\nADD $ONE /to/\nADD --chown=www --chmod=750 {one} /as\n\
             ADD [\"{two}\", \"{index}\", \"/to/\"]\nWORKDIR /etc\nADD --checksum={digest} {one} .\n\
             ADD {tar} /packed/\nADD --unpack {tar} /packed/\nADD --unpack=true {one} /packed/\n\
             ADD --unpack=false x.tar.gz /kept/\nADD x.tar.gz /local/\n"
        ),
    );
    has(
        &found,
        &[
            "to/one.txt -rw------- 0:0 3",
            "as -rwxr-x--- 33:44 3",
            "to/two words -rw------- 0:0 3",
            "to/d -rw------- 0:0 5",
            "etc/one.txt -rw------- 0:0 3",
            "packed/x.tar.gz -rw------- 0:0",
            "packed/inner/file -rw-r--r--",
            "packed/one.txt -rw------- 0:0 3",
            "kept/x.tar.gz -rw-r--r-- 0:0",
            "local/inner/file -rw-r--r--",
        ],
    );
    let out = |file: &str| lab.path("out").join(file);
    assert_eq!(std::fs::metadata(out("to/one.txt")).unwrap().mtime(), 784_111_777);
    assert_eq!(std::fs::metadata(out("etc/one.txt")).unwrap().mtime(), 784_111_777);
    assert_eq!(std::fs::read(out("kept/x.tar.gz")).unwrap(), packed);
    assert!(!out("kept/inner").exists() && !out("local/x.tar.gz").exists());
    let named = built(&lab, &format!("FROM base:1\nADD {index}/ /n/\nADD {none}d/index.html?/x /m\n"));
    has(&named, &["n/d -rw------- 0:0 5", "m -rw------- 0:0 5"]);
}

#[test]
fn a_file_of_the_web_is_fetched_again_when_it_changed() {
    let (lab, server) = labs();
    server.file("f", b"first", 1000);
    let digest = "sha256:a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e";
    let url = server.url("f");
    let dockerfile = format!(
        "FROM base:1 AS other\nADD {url} /g\nFROM base:1\nADD {url} /f\nRUN cat /f > /h\nCOPY --from=other /g /g\n"
    );
    let read = |file: &str| std::fs::read_to_string(lab.path("out").join(file)).unwrap();
    built(&lab, &dockerfile);
    assert_eq!((read("f"), read("g"), read("h")), ("first".into(), "first".into(), "first".into()));
    assert_eq!(server.requests("f"), 1, "both stages see the same file");
    let again = build(&lab, &dockerfile);
    assert_eq!(again.err.matches("CACHED").count(), 4, "{again:?}");
    assert_eq!(server.requests("f"), 3, "the server is asked whether it changed, and not for the file");
    server.file("f", b"second", 2000);
    built(&lab, &dockerfile);
    assert_eq!((read("f"), read("g"), read("h")), ("second".into(), "second".into(), "second".into()));
    server.file("f", b"first", 1000);
    built(&lab, &dockerfile.replace("/h", "/i"));
    assert_eq!(read("i"), "first");
    // The server says that it did not change, but the file itself is not here any more.
    built(&lab, &format!("FROM base:1\nADD {url} /elsewhere\n"));
    assert_eq!(read("elsewhere"), "first");
    // What must be the content is no question for the server.
    let pinned = format!("FROM base:1\nADD --checksum={digest} {url} /f\n");
    built(&lab, &pinned);
    let asked = server.requests("f");
    drop(server);
    assert!(build(&lab, &pinned).err.contains("CACHED"));
    assert_eq!((read("f"), asked > 3), ("first".into(), true));
    let said = lab.knarr(&["build", "--no-cache", "context"]).failed();
    assert!(said.contains(&format!("Dockerfile:2: {url}: ")), "{said}");
}

#[test]
fn what_is_not_fetched_says_why() {
    let (lab, server) = labs();
    server.file("f", b"f", 5).file("g", b"g", 5);
    lab.file("local", "x");
    let (f, g, none) = (server.url("f"), server.url("g"), server.url("none"));
    let sum = format!("sha256:{}", "0".repeat(64));
    for (line, words) in [
        (format!("ADD {none} /"), format!("{none}: invalid response status 404")),
        (format!("ADD --checksum={sum} {f} /"), format!("digest mismatch for {f}: sha256:252f10c8")),
        (format!("ADD --checksum=md5:00 {f} /"), "unsupported digest algorithm".to_owned()),
        (format!("ADD --checksum={sum} {f} {g} /x/"), "can't be specified for multiple sources".to_owned()),
        (format!("ADD --checksum={sum} local /x/"), "checksum requires HTTP(S) or Git sources".to_owned()),
        (format!("ADD {f} {g} /x"), "the destination must be a directory and end with a /".to_owned()),
        (format!("COPY {f} /"), "source can't be a URL for COPY".to_owned()),
        (format!("COPY --checksum={sum} {f} /"), "unknown flag: --checksum".to_owned()),
        (
            "ADD https://127.0.0.1:1/x.git /".to_owned(),
            "failed to fetch remote https://127.0.0.1:1/x.git: ".to_owned(),
        ),
        ("ADD --unpack=maybe local /".to_owned(), "--unpack=maybe: expected true or false".to_owned()),
    ] {
        let said = build(&lab, &format!("FROM base:1\n{line}\n")).failed();
        assert!(said.contains("Dockerfile:2: ") && said.contains(&words), "{line}: {said}");
    }
}

#[test]
fn a_copy_meets_links_of_the_image() {
    let lab = ImageLab::new();
    lab.file("one.txt", "one").file("dir/sub/two.txt", "two").file("plain/sub", "three");
    std::fs::create_dir(lab.path("context/links")).unwrap();
    symlink("anywhere", lab.path("context/links/sub")).unwrap();
    let base = "FROM base:1\nRUN mkdir -p /real/sub /more && ln -s /real/sub /more/sub && ln -s /real /top && \
                ln -s /real/file /file && touch /real/file /plain\n";
    for (line, words) in [
        ("COPY dir /more", "cannot copy to non-directory: /more/sub"),
        ("COPY dir /plain", "cannot copy to non-directory: /plain"),
        ("COPY --parents dir/./sub/two.txt /more", "cannot copy to non-directory: /more/sub"),
        ("COPY links /real/", "cannot replace to directory /real/sub with file"),
        ("COPY plain /top", "cannot replace to directory /real/sub with file"),
    ] {
        let said = build(&lab, &format!("{base}{line}\n")).failed();
        assert!(said.contains("Dockerfile:3: ") && said.contains(words), "{line}: {said}");
    }
    let found = built(
        &lab,
        &format!("{base}COPY dir /top\nCOPY links /more/\nCOPY one.txt /file\nCOPY one.txt /more/sub\n"),
    );
    has(
        &found,
        &[
            "top lrwxrwxrwx",
            "real/sub/two.txt -rw-r--r--",
            "more/sub lrwxrwxrwx 0:0 8 anywhere",
            "more/anywhere -rw-r--r-- 0:0 3",
            "file lrwxrwxrwx 0:0 10 /real/file",
            "real/file -rw-r--r-- 0:0 3",
        ],
    );
}

#[test]
fn an_archive_goes_through_links_that_it_does_not_describe() {
    let lab = ImageLab::new();
    std::fs::write(lab.path("context/a.tar"), archive(&lab, "a.tar", "-cf")).unwrap();
    let made = "mkdir -m 700 /closed && ln -s /closed /inner && ln -s closed /relative";
    let found = built(&lab, &format!("FROM base:1\nRUN {made}\nADD a.tar /\nADD a.tar /relative\n"));
    has(
        &found,
        &[
            "inner lrwxrwxrwx",
            "closed drwx------",
            "closed/file -rw-r--r--",
            "closed/inner drwxr-xr-x",
            "closed/inner/file -rw-r--r--",
        ],
    );
}
