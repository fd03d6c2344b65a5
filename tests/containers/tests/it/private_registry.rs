//! Images from a registry with a password, and what is said of it.

use serde_json::{Value, json};

use crate::docker::image;
use crate::registry::{PASSWORD, Registry, USER};
use crate::site::{Site, UNTIL_STOPPED, shell_options};

fn modules(reference: &str) -> Value {
    json!({ "pulled": {
        "type": "docker", "version": "1", "status": "running", "restartPolicy": "always",
        "settings": { "image": reference, "createOptions": shell_options(UNTIL_STOPPED).to_string() },
    } })
}

#[test]
fn a_wrong_password_is_reported_the_right_one_pulls_and_neither_is_shown() {
    let registry = Registry::start();
    let published = registry.publish(&image("python-example"), "private/module:1");
    let mut site = Site::start();
    let wanted = modules(&published.reference);
    let wrong = "not the password";
    site.deploy_from(&wanted, &registry.address, USER, wrong);
    let refused = site.reported_where("the pull is refused", |reported| {
        reported["modules"]["pulled"]["statusDescription"]
            .as_str()
            .is_some_and(|text| text.contains(&published.reference))
    });
    let pulled = &refused["modules"]["pulled"];
    assert_eq!(pulled["runtimeStatus"], "backoff", "{pulled}");
    assert!(pulled["statusDescription"].as_str().unwrap().contains("unauthorized"), "{pulled}");
    let status = &refused["lastDesiredStatus"];
    assert_eq!(status["code"], 500, "{status}");
    assert!(status["description"].as_str().unwrap().contains("unauthorized"), "{status}");
    let masked = json!({ "address": registry.address, "username": USER, "password": "***" });
    assert_eq!(refused["runtime"]["settings"]["registryCredentials"]["private"], masked);
    assert_eq!(site.container("pulled"), None);

    site.deploy_from(&wanted, &registry.address, USER, PASSWORD);
    let reported = site.reported_where("it runs", |reported| {
        reported["modules"]["pulled"]["runtimeStatus"] == "running" && reported["lastDesiredStatus"]["code"] == 200
    });
    assert_eq!(reported["runtime"]["settings"]["registryCredentials"]["private"], masked);
    assert_eq!(site.container("pulled").unwrap()["Config"]["Image"], published.reference);
    let shown = format!("{refused}{reported}");
    for password in [wrong, PASSWORD] {
        assert!(!shown.contains(password), "in what is reported: {shown}");
        assert_eq!(site.edge.program().lines_with(password), Vec::<String>::new(), "in the edge's log");
    }
}
