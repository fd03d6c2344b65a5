//! What the standard asks of topic names and topic filters (§1.5.3, §4.7).

/// Whether `text` can be the topic of a message: not empty, at most 65,535 bytes, no wildcard, no NUL.
pub fn is_topic_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= usize::from(u16::MAX) && !has_forbidden(text.as_bytes())
}

/// Whether a byte of a topic name is NUL or a wildcard. Looks at every byte, because a loop without an early way out is done
/// many bytes at a time.
pub(crate) fn has_forbidden(topic: &[u8]) -> bool {
    topic.iter().fold(false, |found, byte| found | matches!(byte, 0 | b'+' | b'#'))
}

/// Whether `text` can be subscribed to: not empty, at most 65,535 bytes, no NUL, `+` only as a whole level, `#` only as the
/// whole last level.
pub fn is_topic_filter(text: &str) -> bool {
    if text.is_empty() || text.len() > usize::from(u16::MAX) || text.as_bytes().contains(&0) {
        return false;
    }
    let mut levels = text.split('/').peekable();
    while let Some(level) = levels.next() {
        let lone_wildcard = level == "+" || (level == "#" && levels.peek().is_none());
        if !lone_wildcard && level.contains(['+', '#']) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_wildcards() {
        for good in ["a", "/", "$iothub/twin/GET/?$rid=1", "ä/b c"] {
            assert!(is_topic_name(good), "{good}");
        }
        for bad in ["", "a/+/b", "a+", "#", "a\0b"] {
            assert!(!is_topic_name(bad), "{bad}");
        }
        assert!(is_topic_name(&"x".repeat(65_535)));
        assert!(!is_topic_name(&"x".repeat(65_536)));
    }

    #[test]
    fn wildcards_fill_their_level() {
        for good in ["#", "+", "a/#", "+/a/+", "/+", "devices/d/messages/devicebound/#", "a//b"] {
            assert!(is_topic_filter(good), "{good}");
        }
        for bad in ["", "a#", "a/#/b", "#/", "a+/b", "a\0"] {
            assert!(!is_topic_filter(bad), "{bad}");
        }
    }
}
