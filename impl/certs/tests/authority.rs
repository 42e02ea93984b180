//! An authority signs what the processes believe, and nothing that is not a process's.

use auriga_certs::{AUTHORITY_CERTIFICATE, AUTHORITY_KEY, Authority, CertsError, Validity};
use auriga_net::Credentials;
use auriga_net::tls::{Certified, CertifiedRole, CredentialError, CredentialFiles};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn said(name: &str, role: CertifiedRole, volumes: &[u64]) -> Certified {
    Certified { name: name.to_owned(), role, volumes: volumes.iter().copied().collect() }
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").permissions().mode() & 0o777
}

#[test]
fn what_is_written_can_be_loaded_and_only_its_owner_reads_keys() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("authority");
    Authority::init(&dir).expect("new");
    // Signed later, by another start of the program.
    let authority = Authority::load(&dir).expect("it is there");
    let writer = said("writer", CertifiedRole::Instance, &[1, 7]);
    let [cert, key] = authority.issue(&dir, &writer, Validity::days(1)).expect("issued");
    let ca = dir.join(AUTHORITY_CERTIFICATE);
    let modes = [&dir, &dir.join(AUTHORITY_KEY), &key, &ca, &cert].map(|path| mode(path));
    assert_eq!(modes, [0o700, 0o600, 0o600, 0o644, 0o644]);
    let loaded = Credentials::load(&CredentialFiles { ca, cert, key }).expect("good");
    assert_eq!(loaded.own(), &writer);
    assert!(loaded.ends_soon());
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().expect("a directory");
    let (authority, _) = Authority::init(dir.path()).expect("new");
    assert!(matches!(Authority::init(dir.path()), Err(CertsError::Exists(_))));
    let a1 = said("a1", CertifiedRole::Storage, &[]);
    let [cert, key] = authority.issue(dir.path(), &a1, Validity::days(1)).expect("issued");
    let before = std::fs::read(&key).expect("readable");
    std::fs::remove_file(cert).expect("removed");
    assert!(matches!(authority.issue(dir.path(), &a1, Validity::days(1)), Err(CertsError::Exists(_))));
    assert_eq!(std::fs::read(&key).expect("readable"), before);
    let elsewhere = dir.path().join("elsewhere");
    let missing = Authority::load(&elsewhere).err().expect("there is none").to_string();
    assert!(missing.contains("auriga certs init"), "{missing}");
}

#[test]
fn names_roles_and_volumes_must_go_together() {
    let authority = Authority::generate().expect("new");
    let sign = |certified: &Certified| authority.sign(certified, Validity::days(1)).map(|_| ());
    for name in ["", "ca", ".hidden", "../up", "a b", "naïve", &"x".repeat(64)] {
        assert!(matches!(sign(&said(name, CertifiedRole::Storage, &[])), Err(CertsError::Name(_))), "{name}");
    }
    assert!(matches!(sign(&said("x", CertifiedRole::Instance, &[])), Err(CertsError::Volumes(_))));
    assert!(matches!(sign(&said("x", CertifiedRole::Storage, &[1])), Err(CertsError::Volumes(_))));
    assert!(matches!(sign(&said("x", CertifiedRole::Replication, &[])), Err(CertsError::Volumes(_))));
    sign(&said("x", CertifiedRole::Replication, &[1])).expect("it goes together");
    for role in [CertifiedRole::Control, CertifiedRole::Admin] {
        sign(&said("x", role, &[])).expect("it goes together");
    }
}

/// Each thing that can be wrong with three files has a message of its own.
#[test]
fn what_is_wrong_with_credentials_is_named() {
    let (authority, other) = (Authority::generate().expect("new"), Authority::generate().expect("new"));
    let a1 = said("a1", CertifiedRole::Storage, &[]);
    let (now, ca) = (SystemTime::now(), authority.certificate());
    let issue = |from, until| authority.sign(&a1, Validity { from, until }).expect("signed");
    let good = issue(now - DAY, now + DAY * 100);
    let loaded = Credentials::from_pem(ca, &good.certificate, &good.key).expect("good");
    assert!(!loaded.ends_soon());
    assert!(loaded.must_be("a1", CertifiedRole::Storage).is_ok());
    let why = loaded.must_be("a2", CertifiedRole::Storage).expect_err("another's");
    assert_eq!(why, "the certificate is that of a1 (role storage), and this process is a2 (role storage)");

    let load = |ca: &str, cert: &str, key: &str| Credentials::from_pem(ca, cert, key).expect_err("refused");
    let past = issue(now - DAY * 2, now - DAY);
    assert!(matches!(load(ca, &past.certificate, &past.key), CredentialError::Expired));
    let future = issue(now + DAY, now + DAY * 2);
    assert!(matches!(load(ca, &future.certificate, &future.key), CredentialError::NotYet));
    assert!(matches!(load(other.certificate(), &good.certificate, &good.key), CredentialError::OtherAuthority));
    assert!(matches!(load(ca, &good.certificate, &future.key), CredentialError::OtherKey));
    // An authority's own certificate is no process's.
    assert!(matches!(load(ca, ca, &good.key), CredentialError::Unusable(_) | CredentialError::NotCertified(_)));

    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("rubbish"), "no PEM").expect("written");
    let files = |ca: &str| CredentialFiles { ca: path(ca), cert: path("cert"), key: path("key") };
    assert!(matches!(Credentials::load(&files("gone")), Err(CredentialError::Missing { .. })));
    let why = Credentials::load(&files("rubbish")).expect_err("refused").to_string();
    assert!(why.starts_with("the authority's certificate: ") && why.contains("rubbish"), "{why}");
}
