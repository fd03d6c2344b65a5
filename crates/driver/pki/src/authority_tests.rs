//! What an authority issues, refuses and renews.

use super::*;
use std::os::unix::fs::PermissionsExt;

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> Timestamp {
    Timestamp::parse("2026-01-01T00:00:00Z").unwrap()
}

fn spec(name: &str, days: u32, path_length: Option<u8>) -> AuthoritySpec {
    AuthoritySpec { common_name: name.to_owned(), lifetime: DAY * days, path_length }
}

fn root() -> CertificateAuthority {
    CertificateAuthority::create(&spec("root", 90, None), now(), &Random::seeded(1)).unwrap()
}

#[test]
fn a_server_certificate_has_all_names_and_leads_to_the_root() {
    let root = root();
    let edge = root.create_below(&spec("edge", 30, Some(0)), now()).unwrap();
    let request = CertificateRequest::server(["edge.local", "edgeHub", "127.0.0.2", "EDGEHUB", "::1"]);
    let issued = edge.issue(&request, now(), DAY * 10).unwrap();
    assert_eq!(issued.details.common_name, "edge.local");
    assert_eq!(issued.details.dns_names, ["edge.local", "edgeHub"]);
    assert_eq!(issued.details.addresses.len(), 2);
    assert_eq!(issued.details.not_after, now().plus(DAY * 10));
    assert!(!issued.details.is_authority);

    let chain = crate::pem_certificates(&issued.chain_pem).unwrap();
    assert_eq!(chain.len(), 3);
    let details: Vec<_> = chain.iter().map(|der| CertificateDetails::from_der(der).unwrap()).collect();
    assert_eq!(details[0].authority_key_id, details[1].subject_key_id);
    assert_eq!(details[1].authority_key_id, details[2].subject_key_id);
    assert!(details[1].is_authority && details[2].is_authority);
    assert!(!format!("{issued:?}").contains("PRIVATE"));
}

#[test]
fn nothing_outlives_its_issuer() {
    let root = root();
    let edge = root.create_below(&spec("edge", 400, Some(0)), now()).unwrap();
    assert_eq!(edge.details().not_after, root.details().not_after);
    let issued = edge.issue(&CertificateRequest::client("m"), now(), DAY * 4000).unwrap();
    assert_eq!(issued.details.not_after, root.details().not_after);
    let error = edge.issue(&CertificateRequest::client("m"), now().plus(DAY * 90), DAY).unwrap_err();
    assert_eq!(error.to_string(), "certificate `edge`: has expired, so it can issue nothing");
}

#[test]
fn an_authority_survives_in_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("ca.pem"), folder.path().join("ca.key.pem"));
    let random = Random::system();
    assert!(CertificateAuthority::load(&chain, &key, &random).unwrap().is_none());
    let made = CertificateAuthority::load_or_create(&chain, &key, &spec("ca", 9, None), now(), &random).unwrap();
    let read = CertificateAuthority::load_or_create(&chain, &key, &spec("ca", 9, None), now(), &random).unwrap();
    assert_eq!(made.chain_pem(), read.chain_pem());
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let issued = read.issue(&CertificateRequest::server(["h"]), now(), DAY).unwrap();
    assert_eq!(issued.details.authority_key_id, made.details().subject_key_id);

    std::fs::remove_file(&chain).unwrap();
    assert!(CertificateAuthority::load(&chain, &key, &random).is_err());
    let again = CertificateAuthority::load_or_create(&chain, &key, &spec("ca", 9, None), now(), &random).unwrap();
    assert_eq!(again.details().public_key, made.details().public_key);
}

#[test]
fn a_wrong_key_and_a_leaf_are_no_authority() {
    let (one, other, random) = (root(), root(), Random::seeded(2));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    one.save(&path("one.pem"), &path("one.key")).unwrap();
    other.save(&path("other.pem"), &path("other.key")).unwrap();
    let error = CertificateAuthority::load(&path("one.pem"), &path("other.key"), &random).unwrap_err();
    assert_eq!(error.to_string(), "certificate `root`: does not belong to the given private key");
    let leaf = one.issue(&CertificateRequest::client("leaf"), now(), DAY).unwrap();
    let error = CertificateAuthority::from_pem(&leaf.chain_pem, &leaf.key_pem, &random).unwrap_err();
    assert_eq!(error.to_string(), "certificate `leaf`: is not the certificate of an authority");
    assert!(CertificateAuthority::from_pem("", &leaf.key_pem, &random).is_err());
}

#[test]
fn a_certificate_is_renewed_when_it_no_longer_fits() {
    let root = root();
    let request = CertificateRequest::server(["h", "10.0.0.1"]);
    let issued = root.issue(&request, now(), DAY * 10).unwrap().details;
    let check = |wanted: &CertificateRequest, at| root.needs_reissue(&issued, wanted, at);
    assert_eq!(check(&request, now()), None);
    assert_eq!(check(&CertificateRequest::server(["H", "10.0.0.1"]), now()), Some(ReissueReason::Names));
    assert_eq!(check(&CertificateRequest::server(["h", "10.0.0.2"]), now()), Some(ReissueReason::Names));
    assert_eq!(check(&CertificateRequest::server(["h", "10.0.0.1", "x"]), now()), Some(ReissueReason::Names));
    assert_eq!(check(&request, now().plus(DAY * 79 / 10)), None);
    assert_eq!(check(&request, now().plus(DAY * 8)), Some(ReissueReason::Age));
    assert_eq!(check(&request, now().minus(DAY)), Some(ReissueReason::NotYetValid));
    let other = CertificateAuthority::create(&spec("root", 90, None), now(), &Random::seeded(1)).unwrap();
    assert_eq!(other.needs_reissue(&issued, &request, now()), Some(ReissueReason::Issuer));
}

#[test]
fn long_common_names_are_cut() {
    let name = "n".repeat(100);
    let issued = root().issue(&CertificateRequest::server([name.clone()]), now(), DAY).unwrap();
    assert_eq!(issued.details.common_name.len(), 64);
    assert_eq!(issued.details.dns_names, std::slice::from_ref(&name));
    assert_eq!(issued.details.needs_reissue(&CertificateRequest::server([name]), now()), None);
}
