use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use argon2::ParamsBuilder;

use super::*;
use crate::secret::tests::hex;

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

/// The reading end of a pipe, and the writing end if it is to stay open.
fn pipe(content: &[u8]) -> (OwnedFd, File) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let mut writer = File::from(writer);
    writer.write_all(content).unwrap();
    (reader, writer)
}

fn read(content: &[u8]) -> Result<Vec<u8>, Error> {
    let from_file = Password::read(file(content).into()).map(|it| it.expose().to_vec());
    let (reader, writer) = pipe(content);
    drop(writer);
    let from_pipe = Password::read(reader).map(|it| it.expose().to_vec());
    assert_eq!(from_file, from_pipe);
    from_file
}

/// Promise: the first line, whatever ends it, is the password, from a file as from a pipe.
#[test]
fn the_first_line_is_the_password() {
    for (content, password) in [
        (&b"hunter2"[..], &b"hunter2"[..]),
        (b"hunter2\n", b"hunter2"),
        (b"hunter2\r\n", b"hunter2"),
        (b"hunter2\nmore\n", b"hunter2"),
        (b"hunter2\n\0", b"hunter2"),
        (b" two  words \n", b" two  words "),
        (b"\xff\xfe\r", b"\xff\xfe\r"),
    ] {
        assert_eq!(read(content).unwrap(), password);
    }
}

/// Promise: what is no password is refused: nothing, too much, a zero byte.
#[test]
fn what_is_no_password_is_refused() {
    for content in [&b""[..], b"\n", b"\r\n", b"\nhunter2\n", b"a\0b\n", b"\0"] {
        assert!(
            matches!(read(content), Err(Error::Secret(_))),
            "{content:?}"
        );
    }
    let longest = [b'x'; PASSWORD_SIZE_BYTES_MAX];
    for end in [&b""[..], b"\n", b"\r\n", b"\nmore"] {
        assert_eq!(read(&[&longest[..], end].concat()).unwrap(), longest);
        assert!(read(&[&longest[..], b"x", end].concat()).is_err());
    }
    assert!(read(&[b'x'; 8192]).is_err());
}

/// Promise: a file is read from where it is, as whoever passed it left it.
#[test]
fn a_file_is_read_from_its_position() {
    let mut file = file(b"first\nsecond\n");
    file.seek(SeekFrom::Start(6)).unwrap();
    assert_eq!(Password::read(file.into()).unwrap().expose(), b"second");
}

/// Promise: reading never waits. A line that is whole is taken though its writer is there still;
/// half a line is refused.
#[test]
fn a_writer_that_is_not_done_is_not_waited_for() {
    let (reader, _writer) = pipe(b"hunter2\n");
    assert_eq!(Password::read(reader).unwrap().expose(), b"hunter2");
    for content in [&b""[..], b"hunter2"] {
        let (reader, _writer) = pipe(content);
        assert_eq!(
            Password::read(reader).err(),
            Some(Error::Secret("its writer is not done"))
        );
    }
}

/// Promise: only files and pipes are read; of anything else the vault reads nothing.
#[test]
fn other_descriptors_are_refused() {
    let (here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
    there.write_all(b"hunter2\n").unwrap();
    let mut copy = here.try_clone().unwrap();
    assert!(matches!(Password::read(here.into()), Err(Error::Secret(_))));
    let mut left = [0; 8];
    copy.read_exact(&mut left).unwrap();
    assert_eq!(&left, b"hunter2\n");
    for name in ["/dev/zero", "/dev/null", "/"] {
        assert!(matches!(
            Password::read(File::open(name).unwrap().into()),
            Err(Error::Secret(_))
        ));
    }
    let deaf = OpenOptions::new().write(true).open("/dev/null").unwrap();
    assert!(Password::read(deaf.into()).is_err());
    let (_reader, writer) = pipe(b"hunter2\n");
    assert!(matches!(
        Password::read(writer.into()),
        Err(Error::Secret(_))
    ));
}

/// Promise: it is Argon2id as RFC 9106 defines it.
#[test]
fn the_vector_of_rfc_9106() {
    let params = ParamsBuilder::new()
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .output_len(32)
        .data(argon2::AssociatedData::new(&[4; 12]).unwrap())
        .build()
        .unwrap();
    let mut tag = [0; 32];
    argon2id(&[1; 32], &[2; 16], &[3; 8], params, &mut tag).unwrap();
    let expected = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659";
    assert_eq!(tag, hex(expected)[..]);
}

/// Promise: the key is what another implementation (OpenSSL's) makes of the same; and another
/// password, salt, tangle or cost makes another key.
#[test]
fn a_key_hangs_on_all_that_it_is_made_of() {
    let counted = |first: u8| std::array::from_fn::<u8, 32, _>(|place| first + place as u8);
    let tangle = Secret::from_slice(&counted(32)).unwrap();
    let cost = Cost::checked(MEMORY_KIB_MIN, 2).unwrap();
    let key = stretch(&Password::of("correct horse"), &counted(0), &tangle, cost).unwrap();
    let expected = "485eee4fdec58d50db6ae7277c2ebaa4653c8e666727508056a0a1c34e349bc0";
    assert!(key.is(&hex(expected).try_into().unwrap()));

    let other_tangle = Secret::from_slice(&counted(33)).unwrap();
    let other_cost = Cost::checked(MEMORY_KIB_MIN, 1).unwrap();
    for (password, salt, tangle, cost) in [
        ("correct horsf", counted(0), &tangle, cost),
        ("correct horse", counted(1), &tangle, cost),
        ("correct horse", counted(0), &other_tangle, cost),
        ("correct horse", counted(0), &tangle, other_cost),
    ] {
        let other = stretch(&Password::of(password), &salt, tangle, cost).unwrap();
        assert!(!key.is(other.expose()));
    }
}

/// Promise: a store cannot make the chip spend less or more on a guess than it would itself.
#[test]
fn costs_have_limits() {
    let own = Cost::calibrated().unwrap();
    assert_eq!(Cost::checked(own.memory_kib, own.passes), Some(own));
    assert_eq!(own.memory_kib, MEMORY_KIB);
    for (memory_kib, passes) in [
        (0, 1),
        (MEMORY_KIB_MIN - 1, 1),
        (MEMORY_KIB_MAX + 1, 1),
        (u32::MAX, 1),
        (MEMORY_KIB, 0),
        (MEMORY_KIB, PASSES_MAX + 1),
        (MEMORY_KIB, u32::MAX),
    ] {
        assert_eq!(Cost::checked(memory_kib, passes), None);
    }
}
