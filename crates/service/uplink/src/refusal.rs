//! Which refusals of a request are the hub's last word.

use skerry_model::ErrorCode;

/// Whether the hub would refuse the same request again, whenever it is asked.
pub const fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::BadRequest
            | ErrorCode::ArgumentInvalid
            | ErrorCode::Format
            | ErrorCode::TooLarge
            | ErrorCode::Forbidden
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_the_moment_is_not_final() {
        assert!([ErrorCode::ArgumentInvalid, ErrorCode::TooLarge, ErrorCode::Forbidden].into_iter().all(is_final));
        assert!(![ErrorCode::Throttled, ErrorCode::Unavailable, ErrorCode::Timeout].into_iter().any(is_final));
    }
}
