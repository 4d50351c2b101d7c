//! The room as a whole: a cluster's certificates verify, survive a restart, and are renewed when they no longer fit.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn cluster_is_made_once_and_renewed_as_needed() {
    let dir = tempfile::tempdir().unwrap();
    let params = Params::default();
    let first = Pki::load_or_create(dir.path(), &params).unwrap();
    let again = Pki::load_or_create(dir.path(), &params).unwrap();
    assert_eq!(first.ca.cert, again.ca.cert);
    assert_eq!(first.api_server.cert, again.api_server.cert);
    assert_eq!(first.service_account.public(), again.service_account.public());
    let mode = std::fs::metadata(dir.path().join("sa.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let moved = Params { addresses: vec!["192.0.2.7".parse().unwrap()], ..params };
    let renewed = Pki::load_or_create(dir.path(), &moved).unwrap();
    assert_eq!(first.ca.cert, renewed.ca.cert);
    assert_ne!(first.api_server.cert, renewed.api_server.cert);
    let sans = Info::parse(&renewed.api_server.cert).unwrap().sans;
    for want in [San::Dns("kubernetes.default.svc.cluster.local".into()), San::Ip("10.96.0.1".parse().unwrap())] {
        assert!(sans.contains(&want), "{want:?}");
    }
    std::fs::write(dir.path().join("apiserver.key"), "torn").unwrap();
    Pki::load_or_create(dir.path(), &moved).unwrap();
    std::fs::remove_file(dir.path().join("ca.key")).unwrap();
    assert!(Pki::load_or_create(dir.path(), &moved).is_err(), "half an authority is refused");
}

#[test]
fn client_certificates_carry_user_groups_and_uid() {
    let ca = Pair::new_ca("kubernetes").unwrap();
    let mut subject = Subject::new("jane", &["dev", "system:masters", "ops"]);
    subject.uid = "1234".into();
    let pair = ca.issue(&subject, &[], Usage::CLIENT, cert::YEAR).unwrap();
    assert_eq!(Info::parse(&pair.cert).unwrap().subject, subject);
    let verifier = tls::ClientChainVerifier::new(std::slice::from_ref(&ca.cert)).unwrap();
    verifier.verify(std::slice::from_ref(&pair.cert)).unwrap();
    let stranger = Pair::new_ca("kubernetes").unwrap().issue(&subject, &[], Usage::CLIENT, cert::YEAR).unwrap();
    assert!(verifier.verify(&[stranger.cert]).is_err());
    let server = ca.issue(&subject, &[], Usage::SERVER, cert::YEAR).unwrap();
    assert!(verifier.verify(&[server.cert]).is_err(), "a serving certificate is no client's");
}

#[test]
fn requests_keep_their_subject() {
    let ca = Pair::new_ca("kubernetes").unwrap();
    let key = Key::generate().unwrap();
    let subject = Subject::new("system:node:n1", &["system:nodes"]);
    let sans = [San::Dns("n1".into()), San::Ip("10.0.0.3".parse().unwrap())];
    let text = Request::create(&key, &subject, &sans).unwrap();
    let request = Request::parse(&text).unwrap();
    assert_eq!((&request.subject, request.sans.as_slice()), (&subject, &sans[..]));
    let signed = request.sign(&ca, Usage::CLIENT, cert::YEAR).unwrap();
    let info = Info::parse(&pem::certificates(&signed)[0]).unwrap();
    assert_eq!((info.subject, info.spki), (subject, key.public().spki()));
}

#[test]
fn keys_of_users_are_read() {
    // Made with `openssl ecparam -name prime256v1 -genkey -noout`.
    let sec1 = "-----BEGIN EC PRIVATE KEY-----\n\
        MHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY/PuoAoGCCqGSM49\n\
        AwEHoUQDQgAEPR3tU2Fta9ktY+6P9G0cWO+0kETA6SFs38GecTyudlHz6xvCdz8q\n\
        EKTcWGekdmdDPsHloRNtsiCa697B2O9IFA==\n-----END EC PRIVATE KEY-----\n";
    let key = Key::from_pem(sec1).unwrap();
    let signature = key.sign_jose(b"message").unwrap();
    let public = &PublicKey::all_from_pem(&key.public().to_pem()).unwrap()[0];
    assert!(public.verify_jose(b"message", &signature));
    assert!(!public.verify_jose(b"massage", &signature));
    assert_eq!(public.jose_algorithm(), "ES256");
    assert!(Key::from_pem("nothing").is_err());
}
