//! Names of container images, and addresses of their registries.

/// Why a text names no image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImage {
    /// Nothing but white space.
    #[error("an image name is missing")]
    Blank,
    /// Not of the form `registry/path/name:tag`.
    #[error("not an image name of the form registry/path/name:tag")]
    Form,
    /// Begins with `$` and is not `$upstream:port/…`.
    #[error("a name that begins with $ must be of the form $upstream:port/name:tag")]
    Variable,
    /// `$upstream` on a device that has no parent.
    #[error("$upstream is used, but this device has no parent")]
    NoParent,
}

/// The full name of an image: without white space around, with `:latest` when there is no tag, `$upstream` replaced by the
/// parent's host name.
///
/// # Errors
/// When the text names no image.
pub fn image(text: &str, parent: Option<&str>) -> Result<String, InvalidImage> {
    let text = text.trim();
    if text.is_empty() {
        return Err(InvalidImage::Blank);
    }
    let full = address(text, parent)?;
    // A digest passes as a tag behind a name that ends in `@sha256`: `name@sha256:…`.
    let last = full.rsplit('/').next().unwrap_or(&full);
    match last.split(':').collect::<Vec<_>>()[..] {
        [name] if !name.is_empty() => Ok(format!("{full}:latest")),
        [name, tag] if !name.is_empty() && !tag.is_empty() => Ok(full),
        _ => Err(InvalidImage::Form),
    }
}

/// An address in which `$upstream:port` stands for the parent's host name and that port; others stay as they are.
///
/// # Errors
/// When the text begins with `$` and is not of that form, or there is no parent.
pub fn address(text: &str, parent: Option<&str>) -> Result<String, InvalidImage> {
    if !text.starts_with('$') {
        return Ok(text.to_owned());
    }
    let rest = text.strip_prefix("$upstream").ok_or(InvalidImage::Variable)?;
    let has_port = rest.strip_prefix(':').is_some_and(|port| port.starts_with(|c: char| ('1'..='9').contains(&c)));
    if !has_port {
        return Err(InvalidImage::Variable);
    }
    let parent = parent.ok_or(InvalidImage::NoParent)?;
    Ok(format!("{parent}{rest}"))
}
