//! Arguments that are given as text, as `@file`, or on standard input.

use std::io::Read as _;

use skerry_model::{Json, json};

use crate::failure::Failure;

/// Bytes that are read of a file or of standard input.
const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Nesting of JSON that is read.
const DEPTH_MAX: usize = 64;

/// The bytes an argument stands for.
pub(super) fn bytes(argument: &str) -> Result<Vec<u8>, Failure> {
    let (what, read) = match argument.strip_prefix('@') {
        None if argument == "-" => ("standard input".to_owned(), read_all(std::io::stdin())),
        None => return Ok(argument.as_bytes().to_vec()),
        Some(path) => (format!("`{path}`"), std::fs::File::open(path).and_then(read_all)),
    };
    read.map_err(|cause| Failure::failed(format!("cannot read {what}")).because(cause))
}

fn read_all(from: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(std::io::Error::other(format!("it has more than {INPUT_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// The JSON an argument stands for; `name` is the argument's name.
pub(super) fn json(name: &str, argument: &str) -> Result<Json, Failure> {
    json::parse(&bytes(argument)?, DEPTH_MAX).map_err(|error| Failure::usage(format!("{name} is {error}")))
}

/// The JSON object an argument stands for; `name` is the argument's name.
pub(super) fn object(name: &str, argument: &str) -> Result<json::JsonObject, Failure> {
    match json(name, argument)? {
        Json::Object(object) => Ok(object),
        _ => Err(Failure::usage(format!("{name} is not a JSON object"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_taken_as_it_is_or_from_a_file() {
        assert_eq!(bytes("a@b").unwrap(), b"a@b");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        std::fs::write(&path, "{\"a\":1}").unwrap();
        let object = object("--desired", &format!("@{}", path.display())).unwrap();
        assert_eq!(Json::Object(object).to_string(), "{\"a\":1}");
        assert_eq!(
            json("--desired", "{").unwrap_err().in_a_line(),
            "--desired is not JSON at line 1 column 1: EOF while parsing an object"
        );
        assert!(bytes("@/nowhere/at/all").is_err());
    }
}
