//! How a failure is said: status, six-digit number, name and JSON body, one row per code, and back.
//!
//! Sources: `twin-method-c2d-semantics` §8, `service-auth-and-registry` §3.4, `device-https` §1.1, `device-mqtt` §7.

use serde_json::json;
use skerry_model::{ErrorCode, Json, RequestError, Timestamp};

/// Name of the response header that repeats the failure's name; written in lower case, as the platform's clients look for it.
pub const HEADER: &str = "iothub-errorcode";

/// One failure as the wire says it.
struct Row {
    code: ErrorCode,
    status: u16,
    number: u32,
    name: &'static str,
}

const fn row(code: ErrorCode, status: u16, number: u32, name: &'static str) -> Row {
    Row { code, status, number, name }
}

/// Where two codes share a status, the first is what a bare status is read as.
const TABLE: &[Row] = &[
    row(ErrorCode::BadRequest, 400, 400_000, "BadRequest"),
    row(ErrorCode::ArgumentInvalid, 400, 400_004, "ArgumentInvalid"),
    row(ErrorCode::Format, 400, 400_006, "IotHubFormatError"),
    row(ErrorCode::Superseded, 400, 400_027, "ConnectionForcefullyClosedOnNewConnection"),
    row(ErrorCode::Unauthorized, 401, 401_002, "IotHubUnauthorizedAccess"),
    row(ErrorCode::Forbidden, 403, 403_000, "Forbidden"),
    row(ErrorCode::QuotaExceeded, 403, 403_002, "IotHubQuotaExceeded"),
    row(ErrorCode::QueueDepthExceeded, 403, 403_004, "DeviceMaximumQueueDepthExceeded"),
    row(ErrorCode::NotFound, 404, 404_000, "NotFound"),
    row(ErrorCode::DeviceNotFound, 404, 404_001, "DeviceNotFound"),
    row(ErrorCode::ModuleNotFound, 404, 404_010, "ModuleNotFound"),
    row(ErrorCode::DeviceNotOnline, 404, 404_103, "DeviceNotOnline"),
    row(ErrorCode::ConnectionClosed, 404, 404_104, "DeviceConnectionClosedRemotely"),
    row(ErrorCode::DeviceAlreadyExists, 409, 409_001, "DeviceAlreadyExists"),
    row(ErrorCode::ModuleAlreadyExists, 409, 409_301, "ModuleAlreadyExistsOnDevice"),
    row(ErrorCode::PreconditionFailed, 412, 412_001, "PreconditionFailed"),
    row(ErrorCode::LockLost, 412, 412_002, "DeviceMessageLockLost"),
    row(ErrorCode::TooLarge, 413, 413_001, "MessageTooLarge"),
    row(ErrorCode::LimitExceeded, 413, 413_003, "TooManyModulesOnDevice"),
    row(ErrorCode::Throttled, 429, 429_001, "ThrottlingException"),
    row(ErrorCode::Internal, 500, 500_001, "ServerError"),
    row(ErrorCode::NotImplemented, 501, 501_000, "NotImplemented"),
    row(ErrorCode::Unavailable, 503, 503_001, "ServiceUnavailable"),
    row(ErrorCode::Timeout, 504, 504_101, "GatewayTimeout"),
];

const UNLISTED: Row = row(ErrorCode::Internal, 500, 500_001, "ServerError");

fn find(code: ErrorCode) -> &'static Row {
    TABLE.iter().find(|row| row.code == code).unwrap_or(&UNLISTED)
}

/// The status of a twin response and of an HTTP answer.
pub fn status(code: ErrorCode) -> u16 {
    find(code).status
}

/// The six-digit number.
pub fn number(code: ErrorCode) -> u32 {
    find(code).number
}

/// The name that clients look for in headers and bodies.
pub fn name(code: ErrorCode) -> &'static str {
    find(code).name
}

/// What a status, and a number where there is one, mean when a hub says them.
pub fn code(status: u16, number: Option<u32>) -> ErrorCode {
    let by_number = number.and_then(|number| TABLE.iter().find(|row| row.number == number));
    if let Some(row) = by_number.or_else(|| TABLE.iter().find(|row| row.status == status)) {
        return row.code;
    }
    match status {
        408 => ErrorCode::Timeout,
        400..=499 => ErrorCode::BadRequest,
        502 => ErrorCode::Unavailable,
        _ => ErrorCode::Internal,
    }
}

/// The MQTT return code for somebody who is not let in: 3 invites to come again, 5 is final.
pub fn connack(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::Unavailable | ErrorCode::Throttled | ErrorCode::Internal | ErrorCode::Timeout => 3,
        ErrorCode::BadRequest | ErrorCode::Format | ErrorCode::ArgumentInvalid => 4,
        _ => 5,
    }
}

/// What a failure is stamped with, so that its report can be found in the log.
#[derive(Debug, Clone, Copy)]
pub struct Tracking<'a> {
    /// Names this one failure.
    pub id: &'a str,
    /// When it happened.
    pub at: Timestamp,
}

/// The body of a failed twin operation over MQTT; without it the Node device SDK takes a failure for a success.
pub fn twin_body(error: &RequestError, tracking: Tracking<'_>) -> String {
    json!({
        "errorCode": number(error.code),
        "trackingId": tracking.id,
        "message": error.detail,
        "timestampUtc": tracking.at.to_round_trip(),
    })
    .to_string()
}

/// The body of a failed HTTP request. It holds both forms that clients know: what the .NET client reads is the JSON text inside
/// `Message`, together with [`HEADER`]; everybody else searches for the name or reads the other members.
pub fn http_body(error: &RequestError, tracking: Tracking<'_>) -> String {
    let inner = json!({
        "errorCode": number(error.code),
        "trackingId": tracking.id,
        "message": format!("ErrorCode:{};{}", name(error.code), error.detail),
        "timestampUtc": tracking.at.to_round_trip(),
    });
    json!({
        "Message": inner.to_string(),
        "ExceptionMessage": format!("Tracking ID:{}-TimeStamp:{}", tracking.id, tracking.at),
        "errorCode": number(error.code),
        "trackingId": tracking.id,
        "message": format!("{}: {}", name(error.code), error.detail),
        "timestampUtc": tracking.at.to_round_trip(),
    })
    .to_string()
}

/// Reads a failure from a status and a body, whichever form the body has.
pub fn read(status: u16, body: &[u8]) -> RequestError {
    const TEXT_CHARS_MAX: usize = 512;
    let said: Json = serde_json::from_slice(body).unwrap_or(Json::Null);
    let inner: Json = said["Message"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Json::Null);
    let number = inner["errorCode"].as_u64().or_else(|| said["errorCode"].as_u64());
    let text = [&inner["message"], &said["message"], &said["Message"], &said["errorMessage"], &said["ErrorMessage"]]
        .into_iter()
        .find_map(Json::as_str);
    let (named, sentence) = match text.map(|text| (text.strip_prefix("ErrorCode:"), text)) {
        Some((Some(rest), _)) => rest.split_once(';').map_or((None, rest), |(name, rest)| (Some(name), rest)),
        Some((None, text)) => (None, text),
        None => (None, ""),
    };
    let named = named.and_then(|name| TABLE.iter().find(|row| row.name == name));
    let number = number.and_then(|number| u32::try_from(number).ok()).or(named.map(|row| row.number));
    let code = code(status, number);
    let sentence: String = sentence.trim().chars().take(TEXT_CHARS_MAX).collect();
    if sentence.is_empty() { RequestError::new(code, name(code)) } else { RequestError::new(code, sentence) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACKING: Tracking<'static> = Tracking { id: "5a1c", at: Timestamp::from_unix_seconds(0) };

    #[test]
    fn every_code_comes_back_from_its_own_bodies() {
        for row in TABLE {
            let error = RequestError::new(row.code, "device `d` is not registered");
            assert_eq!(read(row.status, http_body(&error, TRACKING).as_bytes()), error);
            assert_eq!(read(row.status, twin_body(&error, TRACKING).as_bytes()), error);
            assert_eq!(u32::from(row.status), row.number / 1000);
        }
    }

    #[test]
    fn the_other_forms_of_bodies_are_read() {
        let check = |status, body: &str| {
            let error = read(status, body.as_bytes());
            (error.code, error.detail.into_owned())
        };
        assert_eq!(
            check(404, r#"{"Message":"ErrorCode:DeviceNotFound;dev-01","ExceptionMessage":"Tracking ID:1"}"#),
            (ErrorCode::DeviceNotFound, "dev-01".to_owned())
        );
        assert_eq!(
            check(404, r#"{"Message":"{\"errorCode\":404103,\"message\":\"Timed out\"}","ExceptionMessage":""}"#),
            (ErrorCode::DeviceNotOnline, "Timed out".to_owned())
        );
        assert_eq!(check(401, r#"{"errorMessage":"no"}"#), (ErrorCode::Unauthorized, "no".to_owned()));
        assert_eq!(check(502, "<html>"), (ErrorCode::Unavailable, "ServiceUnavailable".to_owned()));
        assert_eq!(check(418, ""), (ErrorCode::BadRequest, "BadRequest".to_owned()));
    }

    #[test]
    fn the_http_body_holds_both_forms() {
        let error = RequestError::new(ErrorCode::DeviceNotFound, "dev-01");
        let body: Json = serde_json::from_str(&http_body(&error, TRACKING)).unwrap();
        let inner: Json = serde_json::from_str(body["Message"].as_str().unwrap()).unwrap();
        assert_eq!(inner["errorCode"], 404_001);
        assert_eq!(inner["timestampUtc"], "1970-01-01T00:00:00.0000000Z");
        assert!(inner["message"].as_str().unwrap().starts_with("ErrorCode:DeviceNotFound;"));
        assert_eq!(body["errorCode"], 404_001);
    }

    #[test]
    fn only_passing_troubles_invite_to_come_again() {
        assert_eq!(connack(ErrorCode::Unauthorized), 5);
        assert_eq!(connack(ErrorCode::DeviceNotFound), 5);
        assert_eq!(connack(ErrorCode::Unavailable), 3);
        assert_eq!(connack(ErrorCode::Format), 4);
    }

    proptest! {
        #[test]
        fn no_body_breaks_the_reader(status in any::<u16>(), body in proptest::collection::vec(any::<u8>(), 0..100), text in ".{0,50}") {
            let _ = read(status, &body);
            let _ = read(status, json!({ "Message": text }).to_string().as_bytes());
        }
    }
}
