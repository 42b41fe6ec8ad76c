//! Where kits come from: directories, archives and repositories; and what is refused of them.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use kombify_kit::Files;
use serde_json::{Value, json};

use super::{copy, ours};
use crate::homelab::{HANDED_WITHIN, until};
use crate::house::House;

/// The ids of the kits that are not ours.
async fn others(house: &House, token: &str) -> Vec<String> {
    let ours: Vec<String> = fs::read_dir(ours())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let listed = house.all(token, "/v1/stackkits").await;
    let ids = listed.iter().map(|kit| kit["id"].as_str().unwrap().to_owned());
    ids.filter(|id| !ours.contains(id)).collect()
}

fn unchanged(_: &str, text: String) -> String {
    text
}

/// Runs git in `dir`, as somebody.
fn git(dir: &Path, arguments: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"])
        .args(["-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"])
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_and_broken_kits_are_refused_and_stand_in_nobodys_way() {
    let house = House::fresh();
    let dir = house.data().with_file_name("kits");
    copy("dns", &dir, "good", unchanged);
    let packed = Files::from_directory(&dir.join("good")).unwrap();
    // Links, a file that is a directory of the node, a kit that says nothing, and one that claims to be ours.
    copy("dns", &dir, "linked", unchanged);
    symlink("/etc/passwd", dir.join("linked/tests/passwd.yaml")).unwrap();
    symlink(dir.join("good"), dir.join("link")).unwrap();
    copy("dns", &dir, "broken", |name, text| if name == "kit.yaml" { "id: [".to_owned() } else { text });
    copy("dns", &dir, "ours", |name, text| match name {
        "kit.yaml" => text.replace("\nid: ours\n", "\nid: dns\n").replace("1.0.0", "9.9.9"),
        "schema.json" | "default-spec.yaml" | "schema.cue" => {
            text.replace("ours", "dns").replace("^1.0", "^9")
        }
        _ => text,
    });
    copy("dns", &dir, "many", unchanged);
    for number in 0..10_000 {
        fs::write(dir.join(format!("many/tests/t{number}.yaml")), "# expect: valid\n").unwrap();
    }
    // Archives: a path that leads out, a link, a bomb, and one that is well.
    for (name, path, flag, size) in [
        ("out", "../../etc/kit.yaml", b'0', 3_usize),
        ("absolute", "/etc/kit.yaml", b'0', 3),
        ("symlink", "kit.yaml", b'2', 0),
        ("hardlink", "kit.yaml", b'1', 0),
        ("device", "kit.yaml", b'3', 0),
    ] {
        let mut tar = header(path, flag, size);
        tar.resize(tar.len() + size.next_multiple_of(512), b'x');
        tar.resize(tar.len() + 1024, 0);
        fs::write(dir.join(format!("{name}.tar.gz")), gzip(&tar)).unwrap();
    }
    fs::write(dir.join("bomb.tar.gz"), gzip(&vec![0; 300 * 1024 * 1024])).unwrap();
    let mut files = Files::default();
    for (path, content) in packed.iter() {
        let text = String::from_utf8(content.to_vec()).unwrap();
        files
            .insert(
                path,
                text.replace("id: good", "id: packed")
                    .replace("kit: good", "kit: packed")
                    .replace("\"good\"", "\"packed\""),
            )
            .unwrap();
    }
    fs::write(dir.join("packed.tar.gz"), files.to_tar_gz()).unwrap();

    house.configure_with(&format!("[[kits.sources]]\nname = \"dir\"\npath = \"{}\"\n", dir.display()));
    let mut house = house;
    house.start();
    let alice = house.token("alice");
    assert_eq!(others(&house, &alice).await, ["good", "packed"]);
    let dns = house.call("GET", "/v1/stackkits/dns").by(&alice).send().await;
    assert_eq!(dns.data()["versions"], json!(["1.0.0"]), "an id belongs to who has it first");
    let log = house.log();
    for told in [
        "linked",
        "broken: kit.yaml",
        "many",
        "out.tar.gz",
        "absolute.tar.gz",
        "symlink.tar.gz",
        "hardlink.tar.gz",
        "device.tar.gz",
        "bomb.tar.gz",
        "belongs to the source kombify",
        "link' is a symbolic link",
    ] {
        let lines =
            log.lines().filter(|line| line.contains("not taken into the registry") && line.contains(told));
        assert_eq!(lines.count(), 1, "{told}");
    }
}

/// A ustar header, however wrong what it says is.
fn header(path: &str, flag: u8, size: usize) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[flag]);
    put(157, if flag == b'1' || flag == b'2' { b"/etc/passwd" } else { b"" });
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_never_changes_whatever_its_source_says_later() {
    let mut house = House::fresh();
    let dir = house.data().with_file_name("kits");
    copy("dns", &dir, "names", unchanged);
    house.configure_with(&format!(
        "[kits]\nrefresh_seconds = 1\n[[kits.sources]]\nname = \"dir\"\npath = \"{}\"\n",
        dir.display()
    ));
    house.start();
    let get = async |house: &House| -> Value {
        house.call("GET", "/v1/stackkits/names").by(&house.token("alice")).send().await.data().clone()
    };
    let first = get(&house).await;
    // The same version with another content, while it runs.
    fs::write(dir.join("names/README.md"), "another one\n").unwrap();
    until("the change is refused", HANDED_WITHIN, async || {
        house.log().contains("give what is new a new version")
    })
    .await;
    assert_eq!(get(&house).await, first);
    house.restart();
    assert_eq!(get(&house).await, first);
    // As a new version it is taken, without a restart.
    let manifest = fs::read_to_string(dir.join("names/kit.yaml")).unwrap();
    fs::write(dir.join("names/kit.yaml"), manifest.replace("version: 1.0.0", "version: 1.0.1")).unwrap();
    until("the new version is there", HANDED_WITHIN, async || get(&house).await["version"] == "1.0.1").await;
    let second = get(&house).await;
    assert_ne!(second["digest"], first["digest"]);
    // What is gone from its source stays for those who are pinned to it, and a stray file takes nothing away.
    fs::remove_dir_all(dir.join("names")).unwrap();
    fs::write(house.data().join("kits/dir/.DS_Store"), "x").unwrap();
    house.restart();
    let alice = house.token("alice");
    let old = house.call("GET", "/v1/stackkits/names?version=1.0.0").by(&alice).send().await;
    assert_eq!(old.data()["digest"], first["digest"]);
    assert_eq!(old.data()["versions"], json!(["1.0.1", "1.0.0"]));
    let archive = house.call("GET", "/v1/stackkits/names/download?version=1.0.0").by(&alice).send().await;
    let read = Files::from_tar_gz(archive.bytes.as_slice()).unwrap();
    assert_eq!(read.digest().to_string(), first["digest"].as_str().unwrap());
    assert_eq!(get(&house).await["digest"], second["digest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tags_of_a_repository_are_versions() {
    let mut house = House::fresh();
    let repository = house.data().with_file_name("repository");
    fs::create_dir(&repository).unwrap();
    git(&repository, &["init", "-q"]);
    let kit = repository.join("kits");
    copy("dns", &kit, "names", unchanged);
    fs::write(repository.join(".gitattributes"), "*.md export-ignore\n*.yaml export-subst\n").unwrap();
    let commit = |version: &str| {
        let manifest = fs::read_to_string(kit.join("names/kit.yaml")).unwrap();
        let line = manifest.lines().find(|line| line.starts_with("version: ")).unwrap().to_owned();
        fs::write(kit.join("names/kit.yaml"), manifest.replace(&line, &format!("version: {version}")))
            .unwrap();
        let spec = fs::read_to_string(kit.join("names/default-spec.yaml")).unwrap();
        let line = spec.lines().find(|line| line.starts_with("version: ")).unwrap().to_owned();
        fs::write(kit.join("names/default-spec.yaml"), spec.replace(&line, &format!("version: ={version}")))
            .unwrap();
        git(&repository, &["add", "-A"]);
        git(&repository, &["commit", "-q", "-m", version]);
        git(&repository, &["tag", &format!("v{version}")]);
    };
    for version in ["1.0.0", "1.2.0", "2.0.0-rc.1"] {
        commit(version);
    }
    // A tag that says something else than its kit, and one that is no version.
    git(&repository, &["tag", "v3.0.0"]);
    git(&repository, &["tag", "latest"]);
    house.configure_with(&format!(
        "[kits]\nrefresh_seconds = 1\n[[kits.sources]]\nname = \"repository\"\ngit = \"file://{}\"\nfolder = \"kits/names\"\n",
        repository.display()
    ));
    house.start();
    let alice = house.token("alice");
    until("the repository was looked at", HANDED_WITHIN, async || {
        house.call("GET", "/v1/stackkits/names").by(&alice).send().await.status == 200
    })
    .await;
    let found = house.call("GET", "/v1/stackkits/names").by(&alice).send().await;
    assert_eq!(found.data()["versions"], json!(["2.0.0-rc.1", "1.2.0", "1.0.0"]));
    assert_eq!(found.data()["version"], "1.2.0", "a pre-release is taken by who names it");
    for (range, expected) in
        [("^1", "1.2.0"), ("~1.0", "1.0.0"), ("<1.2", "1.0.0"), ("=2.0.0-rc.1", "2.0.0-rc.1")]
    {
        let path = format!("/v1/stackkits/names?version={}", range.replace('=', "%3D").replace('<', "%3C"));
        let found = house.call("GET", &path).by(&alice).send().await;
        assert_eq!(found.data()["version"], expected, "{range}");
    }
    house.call("GET", "/v1/stackkits/names?version=%5E7").by(&alice).send().await.refused(404, "NOT_FOUND");
    assert!(house.log().contains("the tag is 3.0.0, and kit.yaml says 2.0.0-rc.1"));
    // What the repository's attributes say of archives changes nothing: the digest is that of the files.
    let archive =
        house.call("GET", "/v1/stackkits/names/download?version=%3D2.0.0-rc.1").by(&alice).send().await;
    let read = Files::from_tar_gz(archive.bytes.as_slice()).unwrap();
    assert_eq!(read, Files::from_directory(&kit.join("names")).unwrap());

    // A tag that is moved changes nothing, and a new one is found.
    let before = house.call("GET", "/v1/stackkits/names?version=%3D1.0.0").by(&alice).send().await;
    git(&repository, &["tag", "-f", "v1.0.0"]);
    commit("1.3.0");
    until("the new tag is found", HANDED_WITHIN, async || {
        house.call("GET", "/v1/stackkits/names").by(&alice).send().await.data()["version"] == "1.3.0"
    })
    .await;
    let after = house.call("GET", "/v1/stackkits/names?version=%3D1.0.0").by(&alice).send().await;
    assert_eq!(after.data()["digest"], before.data()["digest"]);
    // A repository that is gone takes nothing along.
    fs::remove_dir_all(&repository).unwrap();
    house.restart();
    let kept = house.call("GET", "/v1/stackkits/names").by(&house.token("alice")).send().await;
    assert_eq!(kept.data()["version"], "1.3.0");
}
