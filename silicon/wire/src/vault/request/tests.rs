use super::*;
use crate::{Value, request};

const MALFORMED: RequestError = RequestError::Malformed;
const UNKNOWN: RequestError = RequestError::UnknownOperation;

fn main_link(op: &str, fields: &[(&str, Value<'_>)]) -> Result<Request, RequestError> {
    Request::parse(&request(op, fields))
}

fn ssd_link(op: &str, fields: &[(&str, Value<'_>)]) -> Result<SsdRequest, RequestError> {
    SsdRequest::parse(&request(op, fields))
}

fn an_authority() -> Authority {
    Authority {
        key: [4; AUTHORITY_KEY_SIZE_BYTES],
        vendor: vec![5; VENDOR_SIZE_BYTES_MAX],
    }
}

fn set_policy(name: &str) -> Result<Request, RequestError> {
    let fields = [
        ("policy", Value::Text(name)),
        ("external_boot", Value::Bool(true)),
        ("other_systems", Value::Bool(false)),
    ];
    main_link("set_policy", &fields)
}

fn accept_ticket(slot: &str, size_bytes: usize, tries: u64) -> Result<Request, RequestError> {
    let ticket = vec![3; size_bytes];
    let fields = [
        ("slot", Value::Text(slot)),
        ("ticket", Value::Bytes(&ticket)),
        ("tries", Value::Uint(tries)),
    ];
    main_link("accept_ticket", &fields)
}

/// Names of components, and of which byte the digest of each consists.
const COMPONENTS: [(&str, u8); 6] = [
    ("firmware", 0),
    ("variables", 1),
    ("kernel", 2),
    ("system", 3),
    ("recovery", 4),
    ("recovery_kernel", 5),
];

fn request_ticket(product: &str, components: &[(&str, u8)]) -> Result<Request, RequestError> {
    let digests: Vec<[u8; 32]> = components.iter().map(|(_, byte)| [*byte; 32]).collect();
    let mut fields = vec![
        ("product", Value::Text(product)),
        ("epoch", Value::Uint(u64::MAX)),
    ];
    for ((name, _), digest) in components.iter().zip(&digests) {
        fields.push((name, Value::Bytes(digest)));
    }
    main_link("request_ticket", &fields)
}

fn attest(nonce: &[u8], software: &[u8]) -> Result<Request, RequestError> {
    let fields = [
        ("nonce", Value::Bytes(nonce)),
        ("software", Value::Bytes(software)),
    ];
    main_link("attest", &fields)
}

fn write_anchor(size_bytes: usize) -> Result<SsdRequest, RequestError> {
    let anchor = vec![9; size_bytes];
    ssd_link(
        "write_anchor",
        &[
            ("sequence", Value::Uint(u64::MAX)),
            ("anchor", Value::Bytes(&anchor)),
        ],
    )
}

/// A `trust_provider` of this name and a key of this size.
fn trust_provider(name: &str, key_bytes: usize) -> Result<Request, RequestError> {
    let key = vec![6; key_bytes];
    let fields = [
        ("name", Value::Text(name)),
        ("key", Value::Bytes(&key)),
        ("with", Value::Text("password")),
        ("mode", Value::Text("normal")),
    ];
    main_link("trust_provider", &fields)
}

/// A `record_service` with parts of these sizes.
fn record_service(
    job: &str,
    [detail, order, continues]: [usize; 3],
) -> Result<Request, RequestError> {
    let [detail, order, continues] = [detail, order, continues].map(|size| vec![8; size]);
    let fields = [
        ("job", Value::Text(job)),
        ("detail", Value::Bytes(&detail)),
        ("time", Value::Uint(u64::MAX)),
        ("order", Value::Bytes(&order)),
        ("continues", Value::Bytes(&continues)),
        ("with", Value::Text("recovery_key")),
        ("mode", Value::Text("recovery")),
    ];
    main_link("record_service", &fields)
}

/// Promise: every listed operation is understood, on its own link.
#[test]
fn listed_operations_are_read() {
    for (name, kind) in [
        ("keyfile", SealKind::KeyFile),
        ("passphrase", SealKind::Passphrase),
        ("tpm2", SealKind::Tpm),
    ] {
        let fields = [
            ("seal", Value::Text(name)),
            ("authority", Value::Bytes(&[4; AUTHORITY_KEY_SIZE_BYTES])),
            ("vendor", Value::Bytes(&[5; VENDOR_SIZE_BYTES_MAX])),
        ];
        let born = Ok(Request::Birth(kind, an_authority()));
        assert_eq!(main_link("birth", &fields), born);
        let adopting = Ok(Request::AdoptBundle(kind, an_authority()));
        assert_eq!(main_link("adopt_bundle", &fields), adopting);
        let restored = Ok(Request::Restore(an_authority()));
        assert_eq!(main_link("restore", &fields[1..]), restored);
    }
    for (op, request) in [
        ("open", Request::Open),
        ("identity", Request::Identity),
        ("status", Request::Status),
        ("boot", Request::Boot),
        ("set_password", Request::SetPassword),
        ("check_firmware_password", Request::CheckFirmwarePassword),
        ("set_firmware_password", Request::SetFirmwarePassword),
        ("remove_firmware_password", Request::RemoveFirmwarePassword),
        ("came_up", Request::CameUp),
        ("give_up", Request::GiveUp),
        ("erase", Request::Erase),
        ("export_recovery", Request::ExportRecovery),
        ("destroy", Request::Destroy),
    ] {
        assert_eq!(main_link(op, &[]), Ok(request));
    }
    for (with, with_kind) in [
        ("password", With::Password),
        ("recovery_key", With::RecoveryKey),
    ] {
        for (mode, mode_kind) in [("normal", Mode::Normal), ("recovery", Mode::Recovery)] {
            let fields = [("with", Value::Text(with)), ("mode", Value::Text(mode))];
            let proof = Proof {
                with: with_kind,
                mode: mode_kind,
            };
            for (op, request) in [
                ("unlock", Request::Unlock(proof)),
                ("change_password", Request::ChangePassword(proof)),
                ("remove_password", Request::RemovePassword(proof)),
                ("make_recovery_key", Request::MakeRecoveryKey(proof)),
                ("authorise_rollback", Request::AuthoriseRollback(proof)),
            ] {
                assert_eq!(main_link(op, &fields), Ok(request));
            }
        }
    }
    assert_eq!(
        main_link("keep_variables", &[("digest", Value::Bytes(&[7; 32]))]),
        Ok(Request::KeepVariables { digest: [7; 32] })
    );
    for (mode, kind) in [
        ("open", AttachMode::Open),
        ("format", AttachMode::Format),
        ("adopt", AttachMode::Adopt),
    ] {
        assert_eq!(
            main_link("attach_ssd", &[("mode", Value::Text(mode))]),
            Ok(Request::AttachSsd(kind))
        );
    }
    for size_bytes in [NONCE_SIZE_BYTES_MIN, NONCE_SIZE_BYTES_MAX] {
        let (nonce, software) = (vec![5; size_bytes], vec![0xa0]);
        assert_eq!(
            attest(&nonce, &software),
            Ok(Request::Attest { nonce, software })
        );
    }
    assert_eq!(ssd_link("volume_key", &[]), Ok(SsdRequest::VolumeKey));
    assert_eq!(ssd_link("read_anchor", &[]), Ok(SsdRequest::ReadAnchor));
    for size_bytes in [1, ANCHOR_SIZE_BYTES_MAX] {
        let (sequence, anchor) = (u64::MAX, vec![9; size_bytes]);
        assert_eq!(
            write_anchor(size_bytes),
            Ok(SsdRequest::WriteAnchor { sequence, anchor })
        );
    }
}

/// Promise: so is every operation on what may start.
#[test]
fn operations_on_starts_are_read() {
    for (name, policy) in [
        ("full", Policy::Full),
        ("medium", Policy::Medium),
        ("none", Policy::None),
    ] {
        let set = Request::SetPolicy {
            policy,
            external_boot: true,
            other_systems: false,
        };
        assert_eq!(set_policy(name), Ok(set));
    }
    for (name, target) in [
        ("main", Target::Main),
        ("other", Target::Other),
        ("external", Target::External),
        ("recovery", Target::Recovery),
    ] {
        let begun = main_link("begin_start", &[("target", Value::Text(name))]);
        assert_eq!(begun, Ok(Request::BeginStart(target)));
    }
    for (name, slot) in [("a", Slot::A), ("b", Slot::B)] {
        for (size_bytes, tries) in [(1, 0), (TICKET_SIZE_BYTES_MAX, TRIES_MAX)] {
            let ticket = vec![3; size_bytes];
            let accepted = Request::AcceptTicket {
                slot,
                ticket,
                tries,
            };
            assert_eq!(accept_ticket(name, size_bytes, tries), Ok(accepted));
        }
    }
    for size_bytes in [1, PRODUCT_SIZE_BYTES_MAX] {
        let product = "p".repeat(size_bytes);
        let components = Box::new(Components {
            firmware: [0; 32],
            variables: [1; 32],
            kernel: [2; 32],
            system: [3; 32],
            recovery: [4; 32],
            recovery_kernel: [5; 32],
        });
        let asked = Request::RequestTicket {
            product: product.clone(),
            epoch: u64::MAX,
            components,
        };
        assert_eq!(request_ticket(&product, &COMPONENTS), Ok(asked));
    }
}

/// Promise: so is every operation on work inside the machine.
#[test]
fn operations_on_service_are_read() {
    assert_eq!(main_link("service", &[]), Ok(Request::Service));
    let by_password = Proof {
        with: With::Password,
        mode: Mode::Normal,
    };
    for size_bytes in [1, PROVIDER_NAME_SIZE_BYTES_MAX] {
        let name = "n".repeat(size_bytes);
        let trusted = Request::TrustProvider {
            name: name.clone(),
            key: [6; PROVIDER_KEY_SIZE_BYTES],
            proof: by_password,
        };
        assert_eq!(trust_provider(&name, PROVIDER_KEY_SIZE_BYTES), Ok(trusted));
    }
    let fields = [
        ("fingerprint", Value::Bytes(&[7; 32])),
        ("with", Value::Text("password")),
        ("mode", Value::Text("normal")),
    ];
    let distrusted = Request::DistrustProvider {
        fingerprint: [7; 32],
        proof: by_password,
    };
    assert_eq!(main_link("distrust_provider", &fields), Ok(distrusted));
    for (job_bytes, detail, order, continues) in [
        (1, 0, 0, None),
        (
            JOB_SIZE_BYTES_MAX,
            DETAIL_SIZE_BYTES_MAX,
            ORDER_SIZE_BYTES_MAX,
            Some([8; DIGEST_SIZE_BYTES]),
        ),
    ] {
        let job = "j".repeat(job_bytes);
        let sizes = [detail, order, continues.map_or(0, |head| head.len())];
        let recorded = Request::RecordService(Box::new(Service {
            job: job.clone(),
            detail: vec![8; detail],
            time: u64::MAX,
            order: vec![8; order],
            continues,
            proof: Proof {
                with: With::RecoveryKey,
                mode: Mode::Recovery,
            },
        }));
        assert_eq!(record_service(&job, sizes), Ok(recorded));
    }
}

/// Promise: an unknown operation is named as such, and so is one of the other link.
#[test]
fn unknown_operations_are_refused() {
    for op in [
        "export",
        "",
        "sign_image",
        "volume_key",
        "read_anchor",
        "write_anchor",
    ] {
        assert_eq!(main_link(op, &[]), Err(UNKNOWN), "{op}");
    }
    for op in [
        "export",
        "birth",
        "open",
        "identity",
        "status",
        "unlock",
        "erase",
        "destroy",
        "accept_ticket",
        "set_policy",
        "service",
        "record_service",
        "trust_provider",
        "attach_ssd",
    ] {
        assert_eq!(ssd_link(op, &[]), Err(UNKNOWN), "{op}");
    }
}

/// Promise: only the exact fields are taken.
#[test]
fn other_fields_are_malformed() {
    let digest = |size| {
        let digest = Value::Bytes(&[7; 64][..size]);
        main_link("keep_variables", &[("digest", digest)])
    };
    let birth = |key_bytes, vendor_bytes| {
        let (key, vendor) = (vec![4; key_bytes], vec![5; vendor_bytes]);
        let fields = [
            ("seal", Value::Text("keyfile")),
            ("authority", Value::Bytes(&key)),
            ("vendor", Value::Bytes(&vendor)),
        ];
        main_link("birth", &fields)
    };
    for wrong in [
        digest(31),
        digest(33),
        main_link("keep_variables", &[]),
        birth(AUTHORITY_KEY_SIZE_BYTES - 1, 1),
        birth(AUTHORITY_KEY_SIZE_BYTES + 1, 1),
        birth(AUTHORITY_KEY_SIZE_BYTES, 0),
        birth(AUTHORITY_KEY_SIZE_BYTES, VENDOR_SIZE_BYTES_MAX + 1),
        main_link("restore", &[]),
        set_policy("Full"),
        set_policy(""),
        main_link("set_policy", &[("policy", Value::Text("full"))]),
        main_link("begin_start", &[]),
        main_link("begin_start", &[("target", Value::Text("network"))]),
        accept_ticket("c", 1, 0),
        accept_ticket("a", 0, 0),
        accept_ticket("a", TICKET_SIZE_BYTES_MAX + 1, 0),
        accept_ticket("a", 1, TRIES_MAX + 1),
        request_ticket("", &COMPONENTS),
        request_ticket(&"p".repeat(PRODUCT_SIZE_BYTES_MAX + 1), &COMPONENTS),
        request_ticket("p", &COMPONENTS[1..]),
        trust_provider("", PROVIDER_KEY_SIZE_BYTES),
        trust_provider(
            &"n".repeat(PROVIDER_NAME_SIZE_BYTES_MAX + 1),
            PROVIDER_KEY_SIZE_BYTES,
        ),
        trust_provider("n", PROVIDER_KEY_SIZE_BYTES - 1),
        trust_provider("n", PROVIDER_KEY_SIZE_BYTES + 1),
        main_link("distrust_provider", &[]),
        main_link(
            "distrust_provider",
            &[("fingerprint", Value::Bytes(&[7; 32]))],
        ),
        main_link("service", &[("entries", Value::Uint(1))]),
        record_service("", [0, 0, 0]),
        record_service(&"j".repeat(JOB_SIZE_BYTES_MAX + 1), [0, 0, 0]),
        record_service("j", [DETAIL_SIZE_BYTES_MAX + 1, 0, 0]),
        record_service("j", [0, ORDER_SIZE_BYTES_MAX + 1, 0]),
        record_service("j", [0, 0, DIGEST_SIZE_BYTES - 1]),
        record_service("j", [0, 0, DIGEST_SIZE_BYTES + 1]),
        main_link("open", &[("force", Value::Bool(true))]),
        main_link("open", &[("digest", Value::Bytes(&[7; 32]))]),
        main_link("open", &[("op", Value::Text("birth"))]),
        main_link("attach_ssd", &[]),
        main_link("attach_ssd", &[("mode", Value::Text("steal"))]),
        main_link("birth", &[]),
        main_link("birth", &[("seal", Value::Text("none"))]),
        main_link("unlock", &[("with", Value::Text("password"))]),
        main_link(
            "unlock",
            &[
                ("with", Value::Text("uid")),
                ("mode", Value::Text("normal")),
            ],
        ),
        main_link(
            "unlock",
            &[("with", Value::Text("password")), ("mode", Value::Text(""))],
        ),
        attest(&[0; NONCE_SIZE_BYTES_MIN - 1], &[0xa0]),
        attest(&[0; NONCE_SIZE_BYTES_MAX + 1], &[0xa0]),
        attest(&[0; NONCE_SIZE_BYTES_MIN], &[]),
        attest(
            &[0; NONCE_SIZE_BYTES_MIN],
            &[0; SOFTWARE_SIZE_BYTES_MAX + 1],
        ),
        Request::parse(b"\xa0"),
        Request::parse(b"\xa1\x62op\x01"),
    ] {
        assert_eq!(wrong, Err(MALFORMED));
    }
    let (sequence, anchor) = (Value::Uint(1), Value::Bytes(&[1]));
    for wrong in [
        write_anchor(0),
        write_anchor(ANCHOR_SIZE_BYTES_MAX + 1),
        ssd_link("volume_key", &[("again", Value::Bool(true))]),
        ssd_link("read_anchor", &[("sequence", Value::Uint(1))]),
        ssd_link("write_anchor", &[("sequence", sequence)]),
        ssd_link("write_anchor", &[("anchor", anchor)]),
        ssd_link(
            "write_anchor",
            &[
                ("sequence", Value::Text("1")),
                ("anchor", Value::Bytes(&[1])),
            ],
        ),
        // A sequence of 65 bits.
        SsdRequest::parse(
            b"\xa3\x62op\x6cwrite_anchor\x66anchor\x41a\x68sequence\xc2\x49\x01\0\0\0\0\0\0\0\0",
        ),
    ] {
        assert_eq!(wrong, Err(MALFORMED));
    }
}
