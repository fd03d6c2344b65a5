//! Connection strings and tokens, written here anew, so that a mistake of the code under test is not repeated by its test.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;

/// What a person copies: `HostName=…;SharedAccessKeyName=…;SharedAccessKey=…` or `HostName=…;DeviceId=…;…`.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionString(String);

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl ConnectionString {
    /// Takes the text as it is.
    pub fn new(text: &str) -> Self {
        ConnectionString(text.trim().to_owned())
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// One part, such as `HostName`.
    #[track_caller]
    pub fn part(&self, name: &str) -> &str {
        let part = self.0.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        part.unwrap_or_else(|| panic!("a connection string has no `{name}`"))
    }

    /// A token of a service policy for the whole hub, good for an hour.
    #[track_caller]
    pub fn service_token(&self) -> String {
        let resource = self.part("HostName");
        let token = sas_token(resource, self.part("SharedAccessKey"), seconds_now() + 3600);
        format!("{token}&skn={}", self.part("SharedAccessKeyName"))
    }
}

/// A token for `resource` (`host/devices/d`), expiring at `expiry` (seconds since 1970).
#[track_caller]
pub fn sas_token(resource: &str, key: &str, expiry: u64) -> String {
    let resource = utf8_percent_encode(resource, UNRESERVED).to_string();
    let key = STANDARD.decode(key).unwrap_or_else(|cause| panic!("a key is no base64: {cause}"));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), format!("{resource}\n{expiry}").as_bytes());
    let signature = STANDARD.encode(signature);
    let signature = utf8_percent_encode(&signature, UNRESERVED);
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}")
}

pub(crate) fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_one_the_documentation_computes() {
        // Computed with Python's hmac: key "MTIzNDU2Nzg=", resource "h.example/devices/d 1", expiry 1700000000.
        let token = sas_token("h.example/devices/d 1", "MTIzNDU2Nzg=", 1_700_000_000);
        assert_eq!(
            token,
            "SharedAccessSignature sr=h.example%2Fdevices%2Fd%201&sig=ZuFRk0pHAXUoS8dJoZjsiPkLUhfTgmNrfdE%2BWn03rrs%3D&se=1700000000"
        );
    }

    #[test]
    fn parts_are_split_at_the_first_equals_sign() {
        let string = ConnectionString::new("HostName=h;SharedAccessKeyName=iothubowner;SharedAccessKey=YQ==\n");
        assert_eq!(string.part("SharedAccessKey"), "YQ==");
        assert!(string.service_token().ends_with("&skn=iothubowner"));
    }
}
