use proptest::prelude::*;

use super::*;
use crate::files::{BYTES_MAX, FILE_BYTES_MAX, FILES_MAX};

/// A header as anybody might write it.
fn entry(path: &str, flag: u8, content: &[u8]) -> Vec<u8> {
    changed(path, flag, content, |_| {})
}

/// A header that is changed before it gets its checksum.
fn changed(path: &str, flag: u8, content: &[u8], change: impl FnOnce(&mut Block)) -> Vec<u8> {
    let mut block = header("", content.len());
    let (prefix, name) = if path.len() > 100 { path.rsplit_once('/').unwrap() } else { ("", path) };
    put(&mut block, 0, name);
    put(&mut block, 345, prefix);
    block[156] = flag;
    change(&mut block);
    seal(&mut block);
    let mut entry = block.to_vec();
    entry.extend_from_slice(content);
    entry.resize(entry.len().next_multiple_of(BLOCK_BYTES), 0);
    entry
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = entries.concat();
    archive.resize(archive.len() + 2 * BLOCK_BYTES, 0);
    archive
}

fn compressed(tar: &[u8]) -> Vec<u8> {
    let mut gzip = GzBuilder::new().filename("kit.tar").mtime(7).write(Vec::new(), Compression::fast());
    gzip.write_all(tar).unwrap();
    gzip.finish().unwrap()
}

/// A kit, and the digest that GNU's tar and sha256sum give it:
/// `printf 'README.md\nkit.yaml\ntests/a.yaml\n' | tar --format=ustar --mode=0644 --owner=0 --group=0 --numeric-owner
/// --mtime=@0 -b1 -cf - -T - | sha256sum`
fn kit() -> (Files, &'static str) {
    let mut files = Files::default();
    for (path, content) in [("tests/a.yaml", "hi"), ("kit.yaml", "name: x\n"), ("README.md", "#\n")] {
        files.insert(path, content).unwrap();
    }
    (files, "sha256:bde295fe89ca0d38beaf090618e9efee79a6aa29e875410ee5cbf94a400c8bc4")
}

fn fault(archive: &[u8]) -> String {
    Files::from_tar(archive).unwrap_err().to_string()
}

fn fault_gz(archive: &[u8]) -> String {
    Files::from_tar_gz(archive).unwrap_err().to_string()
}

#[test]
fn the_digest_is_that_of_the_archive_as_gnu_tar_writes_it() {
    let (files, digest) = kit();
    assert_eq!(files.digest().to_string(), digest);
    let mut tar = Vec::new();
    let gzip = files.to_tar_gz();
    GzDecoder::new(&gzip[..]).read_to_end(&mut tar).unwrap();
    assert_eq!(Digest::of(&tar), files.digest());
    assert_eq!(gzip[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, UNKNOWN_SYSTEM]);
}

#[test]
fn a_digest_is_read_as_it_is_written() {
    let (files, digest) = kit();
    assert_eq!(digest.parse::<Digest>().unwrap(), files.digest());
    assert_eq!(Digest::of(b"").as_bytes()[..4], [0xe3, 0xb0, 0xc4, 0x42]);
    let hex = &digest["sha256:".len()..];
    for wrong in [
        String::new(),
        "sha256:".into(),
        hex.into(),
        format!("sha512:{hex}"),
        format!("SHA256:{hex}"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("sha256:{hex}0"),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{}é", &hex[2..]),
        format!("sha256:+{}", &hex[1..]),
        format!("sha256: {}", &hex[1..]),
    ] {
        assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
    }
}

#[test]
fn what_everybodys_tools_write_is_read() {
    let (files, _) = kit();
    let gnu = |block: &mut Block| {
        put(block, 100, "0104755\0");
        put(block, 108, "0001750\0");
        put(block, 136, "15302467177\0");
        put(block, 257, "ustar  \0root\0");
        block[329..345].fill(0);
    };
    let by_gnu = archive(&[
        changed("./", b'5', b"", gnu),
        changed("./tests/", b'5', b"", gnu),
        changed("./tests/a.yaml", b'0', b"hi", gnu),
        changed("./README.md", b'0', b"#\n", gnu),
        changed("./kit.yaml", b'0', b"name: x\n", gnu),
        vec![0; 19 * BLOCK_BYTES],
    ]);
    assert_eq!(Files::from_tar(&by_gnu[..]).unwrap(), files);
    assert_eq!(Files::from_tar_gz(&compressed(&by_gnu)[..]).unwrap(), files);

    let note = b"52 comment=f3563e5a2fc72807c460094ca44ba52702bcfa0a\n";
    let by_git = archive(&[
        entry("pax_global_header", b'g', note),
        entry("README.md", b'0', b"#\n"),
        entry("kit.yaml", b'0', b"name: x\n"),
        entry("tests/", b'5', b""),
        entry("tests/a.yaml", b'0', b"hi"),
    ]);
    assert_eq!(Files::from_tar(&by_git[..]).unwrap(), files);

    let before_ustar = archive(&[entry("kit.yaml", 0, b"name: x\n")]);
    assert_eq!(Files::from_tar(&before_ustar[..]).unwrap().len(), 1);
    assert!(Files::from_tar(&archive(&[])[..]).unwrap().is_empty());
}

#[test]
fn what_would_lead_out_of_the_kit_is_refused() {
    let no_path = "is no path of a kit";
    for (path, flag, content, says) in [
        ("../../etc/passwd", b'0', "", no_path),
        ("tests/../../a", b'0', "", no_path),
        ("/etc/passwd", b'0', "", no_path),
        ("//etc/passwd", b'0', "", no_path),
        ("./../a", b'0', "", no_path),
        ("././a", b'0', "", no_path),
        (".//a", b'0', "", no_path),
        (".git/hooks/pre-commit", b'0', "", no_path),
        ("._kit.yaml", b'0', "", no_path),
        ("C:\\a", b'0', "", no_path),
        ("a\\..\\b", b'0', "", no_path),
        ("tests/", b'0', "", no_path),
        ("tests/", 0, "", no_path),
        ("", b'0', "", no_path),
        (".", b'0', "", no_path),
        ("../", b'5', "", no_path),
        ("/", b'5', "", no_path),
        ("tests/..", b'5', "", no_path),
        ("tests//", b'5', "", no_path),
        ("", b'5', "", no_path),
        ("a/b/c/d/e", b'0', "", "is a path of more than 4 segments"),
        ("a/b/c/d/e", b'5', "", "is a path of more than 4 segments"),
        ("kit.yaml", b'1', "", "is a hard link"),
        ("kit.yaml", b'2', "", "is a symbolic link"),
        ("kit.yaml", b'3', "", "is a device"),
        ("kit.yaml", b'4', "", "is a device"),
        ("kit.yaml", b'6', "", "is a fifo"),
        ("kit.yaml", b'7', "", "is of a kind that is not known"),
        ("kit.yaml", b'S', "", "is a sparse file"),
        ("kit.yaml", b'A', "", "is of a kind that is not known"),
        ("kit.yaml", 0xff, "", "is of a kind that is not known"),
        ("PaxHeaders/kit.yaml", b'x', "19 path=../../evil\n", "is an extension of the format"),
        ("././@LongLink", b'L', "../../evil\0", "is an extension of the format"),
        ("././@LongLink", b'K', "/etc/passwd\0", "is an extension of the format"),
    ] {
        let fault = fault(&archive(&[entry(path, flag, content.as_bytes())]));
        assert!(fault.contains(says), "{path} {flag}: {fault}");
        if flag != b'5' {
            assert!(
                fault.contains(&format!("'{}'", path.replace('\\', r"\\"))) || path.starts_with("./"),
                "{fault}"
            );
        }
    }
    let long = format!("{}/{}", "a".repeat(60), "b".repeat(60));
    assert!(fault(&archive(&[entry(&long, b'0', b"")])).contains("is a path of more than 100 characters"));
}

#[test]
fn records_about_the_whole_archive_are_one_comment_at_its_beginning() {
    let comment = "14 comment=ab\n";
    assert!(Files::from_tar(&archive(&[entry("g", b'g', comment.as_bytes())])[..]).is_ok());
    let twice = [entry("g", b'g', comment.as_bytes()), entry("g", b'g', comment.as_bytes())];
    assert!(fault(&archive(&twice)).contains("'g' is an extension of the format"));
    let late = [entry("a", b'0', b""), entry("g", b'g', comment.as_bytes())];
    assert!(fault(&archive(&late)).contains("'g' is an extension of the format"));
    let long = format!("600 comment={}\n", "a".repeat(587));
    for records in [
        "",
        "\n",
        "12 path=a/b\n",
        "13 comment=ab\n",
        "14 comment=ab ",
        "10 size=9\n",
        "23 comment=ab\n9 path=a\n",
        &long,
    ] {
        let fault = fault(&archive(&[entry("g", b'g', records.as_bytes())]));
        assert!(fault.contains("'g' is an extension of the format"), "{records:?}: {fault}");
    }
}

#[test]
fn a_path_has_one_file() {
    for (one, other, says) in [
        ("kit.yaml", "kit.yaml", "'kit.yaml' is there twice"),
        ("kit.yaml", "./kit.yaml", "'kit.yaml' is there twice"),
        ("kit.yaml", "KIT.yaml", "'KIT.yaml' differs from 'kit.yaml' by case only"),
        ("kit.yaml", "kit.yaml/a", "'kit.yaml/a' cannot lie beside 'kit.yaml'"),
    ] {
        let fault = fault(&archive(&[entry(one, b'0', b"1"), entry(other, b'0', b"2")]));
        assert!(fault.contains(says), "{other}: {fault}");
    }
}

#[test]
fn a_header_is_ustars() {
    let with = |change: fn(&mut Block)| fault(&archive(&[changed("kit.yaml", b'0', b"", change)]));
    let format = "the archive cannot be read: it is not of the ustar format";
    let number = "the archive cannot be read: the size in a header is no number";
    assert_eq!(with(|block| block[257..265].fill(0)), format);
    assert_eq!(with(|block| put(block, 257, "ustar\x0001")), format);
    let incremental: fn(&mut Block) = |block| {
        put(block, 257, "ustar  \0");
        put(block, 345, "15302467177\0");
    };
    assert_eq!(with(incremental), format);
    assert_eq!(with(|block| block[124..136].fill(0)), number);
    assert_eq!(with(|block| put(block, 124, "00000000008\0")), number);
    assert_eq!(with(|block| put(block, 124, "-0000000001\0")), number);
    assert_eq!(with(|block| put(block, 124, "000000 0001\0")), number);
    assert_eq!(with(|block| block[124..136].copy_from_slice(b"\x80\0\0\0\0\0\0\0\0\0\x02\0")), number);
    assert_eq!(with(|block| block[124..136].fill(0xff)), number);
    assert_eq!(with(|block| put(block, 124, "777777777777")), "'kit.yaml' has more than 262144 bytes");
    assert_eq!(with(|block| put(block, 124, "00001000001\0")), "'kit.yaml' has more than 262144 bytes");

    let mut wrong = archive(&[entry("kit.yaml", b'0', b"")]);
    wrong[0] = b'K';
    assert_eq!(fault(&wrong), "the archive cannot be read: the checksum of a header is wrong");
    let folder = archive(&[entry("tests/", b'5', b"x")]);
    assert_eq!(fault(&folder), "the archive cannot be read: a folder has content");
}

#[test]
fn an_archive_is_read_to_its_end_and_ends_there() {
    let early = "the archive cannot be read: it ends too early";
    let follows = "the archive cannot be read: something follows its end";
    let whole = kit().0.to_tar();
    let end = whole.len() - 2 * BLOCK_BYTES;
    for length in [0, 1, 511, 512, 513, 514, 1023, 1024, 1536, end, end + 1, end + 512, end + 1023] {
        assert_eq!(fault(&whole[..length]), early, "{length}");
    }
    let mut lone = whole.clone();
    lone[end + BLOCK_BYTES] = 1;
    assert_eq!(fault(&lone), follows);
    assert_eq!(fault(&[&whole[..], b"x"].concat()), follows);
    assert_eq!(fault(&[&whole[..], &[0; 700], b"x"].concat()), follows);
    assert_eq!(fault(&[&whole[..], &whole[..]].concat()), follows);
    assert!(Files::from_tar(&[&whole[..], &[0; 700]].concat()[..]).is_ok());
    // What never ends is left.
    let nothing: &[u8] = &[];
    for (beginning, forever) in [(&whole[..], 0), (nothing, 0), (nothing, b'x')] {
        let fault = Files::from_tar(beginning.chain(io::repeat(forever))).unwrap_err();
        let length = matches!(fault, ReadError::Length { limit_bytes: TAR_BYTES_MAX });
        assert!(length || forever != 0, "{fault}");
    }
}

#[test]
fn a_gzip_stream_is_one_and_holds_its_own_check() {
    let early = "the archive cannot be read: it ends too early";
    let damaged = "the archive cannot be read: its gzip stream is damaged";
    let follows = "the archive cannot be read: something follows the gzip stream";
    let tar = kit().0.to_tar();
    let whole = compressed(&tar);
    for length in 0..whole.len() {
        assert_eq!(fault_gz(&whole[..length]), early, "{length}");
    }
    for (at, says) in [(0, damaged), (2, damaged), (whole.len() - 8, damaged), (whole.len() - 1, damaged)] {
        let mut wrong = whole.clone();
        wrong[at] ^= 0x40;
        assert_eq!(fault_gz(&wrong), says, "{at}");
    }
    assert_eq!(fault_gz(&tar), damaged);
    assert_eq!(fault_gz(&[&whole[..], b"\0"].concat()), follows);
    assert_eq!(fault_gz(&[&whole[..], &whole[..]].concat()), follows);
    // Two members are no archive, even if they would be one together.
    let (one, other) = tar.split_at(BLOCK_BYTES);
    assert_eq!(fault_gz(&[compressed(one), compressed(other)].concat()), early);
}

#[test]
fn bombs_do_not_go_off() {
    let length = format!("the archive has more than {TAR_BYTES_MAX} bytes");
    // Blanks without end.
    let mut blanks = kit().0.to_tar();
    blanks.resize(8 * 1024 * 1024, 0);
    assert_eq!(fault(&blanks), length);
    assert_eq!(fault_gz(&compressed(&blanks)), length);
    // Folders without end.
    let folders = entry("tests/", b'5', b"").repeat(10_000);
    assert_eq!(fault(&folders), length);
    // A stream of blocks that hold nothing.
    let mut nothing = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    nothing.extend([0_u8, 0, 0, 0xff, 0xff].repeat(1_000_000));
    assert_eq!(fault_gz(&nothing), length);
    // A name of the stream without end.
    let named: &[u8] = &[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255];
    assert!(Files::from_tar_gz(named.chain(io::repeat(b'a'))).is_err());

    let many: Vec<_> = (0..10_000).map(|number| entry(&format!("f{number}"), b'0', b"")).collect();
    assert_eq!(
        fault(&archive(&many)),
        format!("'f{FILES_MAX}' is one file more than the 200 that a kit may have")
    );
    let full = vec![0; FILE_BYTES_MAX];
    let large: Vec<_> = (0..9).map(|number| entry(&format!("f{number}"), b'0', &full)).collect();
    assert_eq!(fault(&archive(&large)), format!("'f8' makes the kit larger than {BYTES_MAX} bytes"));
    // Whatever a header claims, nothing is made for it before it has been checked.
    let claim = changed("kit.yaml", b'0', b"", |block| put(block, 124, "777777777777"));
    assert_eq!(fault(&claim), "'kit.yaml' has more than 262144 bytes");
}

#[test]
fn the_largest_kit_fits_into_an_archive_even_if_nothing_can_be_compressed() {
    let mut files = Files::default();
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    for number in 0..FILES_MAX {
        let content: Vec<u8> = (0..BYTES_MAX / FILES_MAX).map(|_| noise()).collect();
        files.insert(&format!("f{number}"), content).unwrap();
    }
    let (tar, gzip) = (files.to_tar(), files.to_tar_gz());
    assert!(u64::try_from(tar.len()).unwrap() <= TAR_BYTES_MAX);
    assert!(u64::try_from(gzip.len()).unwrap() <= GZIP_BYTES_MAX);
    assert_eq!(Files::from_tar_gz(&gzip[..]).unwrap(), files);
}

/// What somebody might want to pack, fitting or not.
fn contents() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let path = "[ab][a-c.]{0,2}(/[ab]{1,2}){0,3}";
    prop::collection::vec((path, prop::collection::vec(any::<u8>(), 0..1200)), 0..8)
}

fn fitting(contents: &[(String, Vec<u8>)]) -> Files {
    let mut files = Files::default();
    for (path, content) in contents {
        // What does not fit is left out.
        let _ = files.insert(path, content.clone());
    }
    files
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_packed_is_read_back_the_same(contents in contents()) {
        let files = fitting(&contents);
        let tar = files.to_tar();
        let read = Files::from_tar(&tar[..]).unwrap();
        prop_assert_eq!(&read, &files);
        prop_assert_eq!(read.to_tar(), tar);
        prop_assert_eq!(Files::from_tar_gz(&files.to_tar_gz()[..]).unwrap(), files);
    }

    #[test]
    fn the_digest_knows_no_order(contents in contents()) {
        let files = fitting(&contents);
        let mut backwards: Vec<_> = files.iter().map(|(path, content)| entry(path, b'0', content)).collect();
        backwards.reverse();
        prop_assert_eq!(Files::from_tar(&archive(&backwards)[..]).unwrap().digest(), files.digest());
    }

    #[test]
    fn the_digest_knows_every_byte(contents in contents(), path in "[d-f]{1,9}", content in any::<u8>()) {
        let files = fitting(&contents);
        let mut more = files.clone();
        more.insert(&path, vec![content]).unwrap();
        prop_assert_ne!(more.digest(), files.digest());
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        prop_assert!(Files::from_tar(&bytes[..]).is_err());
        prop_assert!(Files::from_tar_gz(&bytes[..]).is_err());
        let header: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        let gzip = [header, &bytes[..]].concat();
        prop_assert!(Files::from_tar_gz(&gzip[..]).is_err());
    }

    #[test]
    fn no_header_makes_the_reader_panic_or_leave_its_bounds(
        changes in prop::collection::vec((0..BLOCK_BYTES, any::<u8>()), 0..6),
        content in prop::collection::vec(any::<u8>(), 0..1200),
    ) {
        let change = |block: &mut Block| {
            for (at, byte) in &changes {
                block[*at] = *byte;
            }
        };
        let archive = archive(&[changed("tests/a.yaml", b'0', &content, change), entry("b", b'0', b"")]);
        if let Ok(files) = Files::from_tar(&archive[..]) {
            prop_assert!(files.len() <= 2);
            prop_assert!(files.bytes() <= archive.len());
            for (path, _) in files.iter() {
                prop_assert!(check_path(path).is_ok());
            }
        }
    }
}
