//! An authority made here, renewed, damaged, and one from files.

use super::*;
use skerry_dialect::connection_string::ClientConnection;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn now() -> Timestamp {
    Timestamp::parse("2026-01-01T00:00:00Z").unwrap()
}

fn config(folder: &Path) -> IdentityConfig {
    IdentityConfig {
        connection: ClientConnection::parse(&format!("HostName=h;DeviceId=edge1;SharedAccessKey={KEY}")).unwrap(),
        data_folder: folder.to_owned(),
        workload_folder: folder.join("workload"),
        authority: AuthoritySource::MadeHere,
        extra_trust: None,
        lifetimes: Lifetimes::default(),
    }
}

fn open(config: &IdentityConfig, now: Timestamp) -> Result<EdgeAuthority, PkiError> {
    EdgeAuthority::open(config, &DeviceId::parse("edge1").unwrap(), now, &Random::seeded(1))
}

fn request() -> CertificateRequest {
    CertificateRequest::server(["edge1.local", "edgeHub", "127.0.0.2"])
}

#[test]
fn renewing_the_authority_changes_no_trust() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let authority = open(&config, now()).unwrap();
    let trust = authority.trust_bundle();
    let first = authority.issue(&request(), now()).unwrap();
    assert_eq!(first.details.not_after, now().plus(DAY * 30));
    let chain = skerry_pki::pem_certificates(&first.chain_pem).unwrap();
    assert_eq!(chain.last(), skerry_pki::pem_certificates(&trust).unwrap().first());
    assert_eq!(CertificateDetails::from_der(&chain[1]).unwrap().common_name, "Skerry edge CA edge1");

    // 80 % of 90 days.
    let later = now().plus(DAY * 73);
    let second = authority.issue(&request(), later).unwrap();
    assert_ne!(second.details.authority_key_id, first.details.authority_key_id);
    assert_eq!(authority.trust_bundle(), trust);
    assert_eq!(authority.needs_reissue(&second.details, &request(), later), None);
    assert_eq!(authority.needs_reissue(&first.details, &request(), later), Some(ReissueReason::Age));

    let reopened = open(&config, later).unwrap();
    assert_eq!(reopened.trust_bundle(), trust);
    assert_eq!(reopened.expires(), authority.expires());
    assert_eq!(reopened.issue(&request(), later).unwrap().details.authority_key_id, second.details.authority_key_id);
}

#[test]
fn a_certificate_of_the_authority_before_is_good_until_it_ages() {
    let folder = tempfile::tempdir().unwrap();
    let authority = open(&config(folder.path()), now()).unwrap();
    let old = authority.issue(&request(), now().plus(DAY * 70)).unwrap();
    authority.issue(&request(), now().plus(DAY * 73)).unwrap();
    assert_eq!(authority.needs_reissue(&old.details, &request(), now().plus(DAY * 74)), None);
}

#[test]
fn what_a_wrong_clock_made_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let at_boot = open(&config, Timestamp::from_unix_seconds(60)).unwrap();
    let old_trust = at_boot.trust_bundle();
    let issued = at_boot.issue(&request(), now()).unwrap();
    assert_ne!(at_boot.trust_bundle(), old_trust);
    assert_eq!(issued.details.not_after, now().plus(DAY * 30));
    let trust = at_boot.trust_bundle();
    assert_eq!(open(&config, now()).unwrap().trust_bundle(), trust);
    assert_ne!(open(&config, now().minus(DAY * 100)).unwrap().trust_bundle(), trust);
}

#[test]
fn a_half_written_authority_is_made_again_below_its_root() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let trust = open(&config, now()).unwrap().trust_bundle();
    for damage in ["edge-ca.pem", "edge-ca.key.pem"] {
        std::fs::write(folder.path().join("certificates").join(damage), "half").unwrap();
        assert_eq!(open(&config, now()).unwrap().trust_bundle(), trust, "{damage}");
    }
    std::fs::write(folder.path().join("certificates/root.pem"), "half").unwrap();
    assert!(open(&config, now()).is_err(), "a root that others trust is not thrown away silently");
}

#[test]
fn an_operators_authority_is_used_and_not_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let spec = AuthoritySpec { common_name: "plant".into(), lifetime: DAY * 10, path_length: None };
    let plant = CertificateAuthority::create(&spec, now(), &Random::seeded(2)).unwrap();
    plant.save(&path("plant.pem"), &path("plant.key")).unwrap();
    std::fs::write(path("extra.pem"), plant.chain_pem()).unwrap();
    let files = AuthoritySource::Files { certificate: path("plant.pem"), key: path("plant.key") };
    let config = IdentityConfig { authority: files, extra_trust: Some(path("extra.pem")), ..config(folder.path()) };
    let authority = open(&config, now()).unwrap();
    assert_eq!(skerry_pki::pem_certificates(&authority.trust_bundle()).unwrap().len(), 2);
    assert_eq!(authority.issue(&request(), now()).unwrap().details.not_after, now().plus(DAY * 10));
    assert!(authority.issue(&request(), now().plus(DAY * 11)).is_err());

    let missing = IdentityConfig { extra_trust: Some(path("none.pem")), ..config.clone() };
    let error = open(&missing, now()).unwrap_err();
    assert!(error.to_string().ends_with("none.pem`: the file is missing"), "{error}");
    std::fs::write(path("extra.pem"), "not a certificate").unwrap();
    assert!(open(&config, now()).is_err());
}
