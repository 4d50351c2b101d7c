//! Every provider there and back, in upstream's layout; changes of keys; what a configuration must not say.

use std::sync::Arc;

use base64::Engine;
use bytes::Bytes;
use meta::GroupResource;
use registry::{Sealer, Transformer};

use crate::{Encryption, config};

const KEY: &[u8] = b"/registry/secrets/default/one";

fn key(length: usize, fill: u8) -> String {
    base64::engine::general_purpose::STANDARD.encode(vec![fill; length])
}

fn file(resources: &str, providers: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [{resources}]\n  \
         providers: [{providers}]\n"
    )
}

fn keyed(provider: &str, name: &str, secret: &str) -> String {
    format!("{{{provider}: {{keys: [{{name: {name}, secret: {secret:?}}}]}}}}")
}

async fn load(text: &str) -> Arc<Encryption> {
    Encryption::load(text, rt::Shutdown::new()).await.expect("a configuration")
}

fn of(encryption: &Encryption, resource: &str, group: &str) -> Option<Arc<dyn Transformer>> {
    encryption.transformer(&GroupResource::new(group, resource))
}

#[tokio::test]
async fn providers_seal_with_upstreams_prefixes() {
    for (provider, length, overhead) in [
        ("aescbc", 16, 16 + 11),
        ("aescbc", 24, 16 + 11),
        ("aescbc", 32, 16 + 11),
        ("aesgcm", 16, 12 + 16),
        ("aesgcm", 24, 12 + 16),
        ("aesgcm", 32, 12 + 16),
        ("secretbox", 32, 24 + 16),
    ] {
        let encryption = load(&file("secrets", &keyed(provider, "key1", &key(length, 7)))).await;
        let transformer = of(&encryption, "secrets", "").expect("there is a rule");
        let sealed = transformer.seal(KEY, Bytes::from_static(b"plain")).await.expect("sealed");
        let prefix = format!("k8s:enc:{provider}:v1:key1:");
        assert!(sealed.starts_with(prefix.as_bytes()), "{provider}");
        assert_eq!(sealed.len(), prefix.len() + overhead + 5, "{provider}");
        let opened = transformer.open(KEY, sealed.clone()).await.expect("opened");
        assert_eq!((&opened.value[..], opened.stale), (&b"plain"[..], false), "{provider}");
        let mut broken = sealed.to_vec();
        let last = broken.len() - 1;
        broken[last] ^= 1;
        let broken = transformer.open(KEY, broken.into()).await;
        assert!(broken.is_err() || broken.expect("it is").value != "plain", "{provider}");
        if provider == "aesgcm" {
            assert!(transformer.open(b"/registry/secrets/default/two", sealed).await.is_err(), "the key counts");
        }
    }
}

/// `printf plain | openssl enc -aes-256-cbc -K 0707... -iv 0000...`
#[test]
fn foreign_values_are_opened() {
    const SEALED: [u8; 16] = 0xe0e0_0e82_abc1_5977_4f25_1304_1ac0_7fc5_u128.to_be_bytes();
    let cipher = crate::cipher::Cbc::new(&[7; 32]);
    assert_eq!(cipher.open(&[[0; 16], SEALED].concat()).expect("opened"), b"plain");
}

#[tokio::test]
async fn keys_change_and_old_values_are_stale() {
    let identity = "{identity: {}}";
    let old = load(&file("secrets", &keyed("aescbc", "a", &key(32, 1)))).await;
    let written = of(&old, "secrets", "").expect("a rule").seal(KEY, "plain".into()).await.expect("sealed");
    let both = format!("{}, {}, {identity}", keyed("aesgcm", "b", &key(32, 2)), keyed("aescbc", "a", &key(32, 1)));
    let encryption = load(&file("secrets", &both)).await;
    let now = of(&encryption, "secrets", "").expect("a rule");
    for (value, wanted) in [(written.clone(), "plain"), (Bytes::from_static(b"k8s\0stored"), "k8s\0stored")] {
        let opened = now.open(KEY, value).await.expect("opened");
        assert_eq!((&opened.value[..], opened.stale), (wanted.as_bytes(), true));
    }
    // Away from encryption: identity first leaves sealed values to the next provider.
    let away = load(&file("secrets", &format!("{identity}, {}", keyed("aescbc", "a", &key(32, 1))))).await;
    let opened = of(&away, "secrets", "").expect("a rule").open(KEY, written.clone()).await.expect("opened");
    assert_eq!((&opened.value[..], opened.stale), (&b"plain"[..], true));
    // The same name with another key does not hide the right one; nobody's value is an error.
    let again = format!("{}, {}", keyed("aescbc", "a", &key(32, 9)), keyed("aescbc", "a", &key(32, 1)));
    let again = load(&file("secrets", &again)).await;
    let opened = of(&again, "secrets", "").expect("a rule").open(KEY, written.clone()).await;
    assert!(opened.is_ok_and(|o| o.value == "plain"));
    let error = of(&again, "secrets", "").expect("a rule").open(KEY, "k8s:enc:kms:v2:x:".into()).await;
    assert_eq!(error.expect_err("nobody's").message, "no matching prefix found");

    old.reload(&file("secrets", identity)).await.expect("reloaded");
    let sealed = of(&old, "secrets", "").expect("a rule").seal(KEY, "plain".into()).await.expect("sealed");
    assert_eq!(sealed, "plain");
    assert!(old.reload("nonsense: [").await.is_err());
    assert!(of(&old, "secrets", "").is_some(), "what was in force stays");
}

#[tokio::test]
async fn the_most_specific_rule_applies() {
    let rule = |resources: &str, name: &str| {
        format!("- resources: [{resources}]\n  providers: [{}]\n", keyed("secretbox", name, &key(32, 3)))
    };
    let head = "kind: EncryptionConfig\napiVersion: v1\nresources:\n";
    let text = format!("{head}{}{}{}", rule("secrets", "a"), rule("'*.apps'", "b"), rule("'*.*'", "c"));
    let encryption = load(&text).await;
    for (resource, group, wanted) in
        [("secrets", "", "a"), ("deployments", "apps", "b"), ("pods", "", "c"), ("things", "example.com", "c")]
    {
        let transformer = of(&encryption, resource, group).expect("a rule");
        let sealed = transformer.seal(KEY, "x".into()).await.expect("sealed");
        assert!(sealed.starts_with(format!("k8s:enc:secretbox:v1:{wanted}:").as_bytes()), "{resource}");
    }
    let masked = format!("{head}{}{}", rule("'*.*'", "a"), rule("secrets", "b"));
    let error = Encryption::load(&masked, rt::Shutdown::new()).await.err().expect("it is masked");
    assert!(error.to_string().ends_with(r#"resource "secrets" is masked by earlier rule "*.*""#), "{error}");
    let one = load(&crate::new_secrets_configuration().expect("made")).await;
    assert!(of(&one, "secrets", "").is_some() && of(&one, "configmaps", "").is_none());
}

#[test]
fn bad_configurations_are_refused() {
    let box_of = |secret: &str| keyed("secretbox", "k", secret);
    for (text, wanted) in [
        ("kind: Pod\napiVersion: v1\n".to_owned(), "no kind \"Pod\""),
        (file("secrets", ""), "resources[0].providers: Required value: at least one"),
        (file("", "{identity: {}}"), "resources[0].resources: Required value"),
        (file("secrets", "{identity: {}, aescbc: {}}"), "more than one provider specified"),
        (file("secrets", "{}"), "does not contain any of the expected providers"),
        (file("secrets", &box_of(&key(16, 0))), "not of the expected length, got 16, expected one of [32]"),
        (file("secrets", &box_of("%%%")), "secrets must be base64 encoded"),
        (file("secrets", "{aesgcm: {keys: []}}"), "at least one keys is required"),
        (file("secrets, secrets", "{identity: {}}"), "the same resource cannot be specified multiple times"),
        (file("secrets, '*.'", "{identity: {}}"), "overlapping resources"),
        (file("'*'", "{identity: {}}"), "use '*.'"),
        (file("Secrets", "{identity: {}}"), "capital letters"),
        (file("events.events.k8s.io", "{identity: {}}"), "Use 'events' instead"),
        (file("secrets.*", "{identity: {}}"), "across groups"),
        (file("secrets", "{kms: {name: a, endpoint: 'unix:///x'}}"), "KMSv1 is deprecated"),
        (file("secrets", "{kms: {apiVersion: v2, name: 'a:b', endpoint: 'unix:///x'}}"), "must not contain ':'"),
        (file("secrets", "{kms: {apiVersion: v2, name: a, endpoint: 'tcp://x'}}"), "only unix is supported"),
        (
            file("secrets", "{kms: {apiVersion: v2, name: a, cachesize: 1, endpoint: 'unix:///x'}}"),
            "not supported in v2",
        ),
    ] {
        let error = config::parse(&text).err().unwrap_or_else(|| panic!("accepted: {text}"));
        assert!(error.to_string().contains(wanted), "{error} is not {wanted}");
    }
    assert!(config::parse(&file("secrets", "{aescbc: {kees: []}}")).is_err(), "unknown fields are errors");
}

mod kms;
