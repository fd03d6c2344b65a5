//! Names of images: what to ask the engine for.

use skerry_model::manifest::ImageArtifact;

/// An image name, split as the engine's pull call wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) version: Version,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Version {
    Tag(String),
    /// `sha256:…`
    Digest(String),
}

impl Reference {
    /// The image of a spec. A digest beside the name says exactly which content is wanted, and then counts for more than a tag.
    pub(crate) fn of(artifact: &ImageArtifact) -> Self {
        let named = Self::parse(&artifact.image);
        match &artifact.digest {
            Some(digest) => Self { name: named.name, version: Version::Digest(digest.clone()) },
            None => named,
        }
    }

    fn parse(image: &str) -> Self {
        if let Some((name, digest)) = image.split_once('@') {
            return Self { name: without_tag(name).0.to_owned(), version: Version::Digest(digest.to_owned()) };
        }
        let (name, tag) = without_tag(image);
        Self { name: name.to_owned(), version: Version::Tag(tag.unwrap_or("latest").to_owned()) }
    }

    /// The value of the pull call's `tag`.
    pub(crate) fn version_text(&self) -> &str {
        match &self.version {
            Version::Tag(text) | Version::Digest(text) => text,
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.version {
            Version::Tag(tag) => write!(out, "{}:{tag}", self.name),
            Version::Digest(digest) => write!(out, "{}@{digest}", self.name),
        }
    }
}

/// A colon before the last slash belongs to the registry's port.
fn without_tag(image: &str) -> (&str, Option<&str>) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        Some(_) | None => (image, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(image: &str, digest: Option<&str>) -> (String, String, String) {
        let artifact = ImageArtifact {
            image: image.to_owned(),
            digest: digest.map(str::to_owned),
            create_options: Default::default(),
            pull: Default::default(),
        };
        let reference = Reference::of(&artifact);
        (reference.name.clone(), reference.version_text().to_owned(), reference.to_string())
    }

    fn split(image: &str) -> (String, String) {
        let (name, version, whole) = reference(image, None);
        assert_eq!(whole.trim_end_matches(":latest"), image.trim_end_matches(":latest"));
        (name, version)
    }

    #[test]
    fn names_are_split_at_the_tag_or_digest() {
        let cases = [
            ("ubuntu:22.04", "ubuntu", "22.04"),
            ("ubuntu", "ubuntu", "latest"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b", "1"),
            ("localhost:5000/a/b", "localhost:5000/a/b", "latest"),
            ("repo/img@sha256:0123abcd", "repo/img", "sha256:0123abcd"),
            ("localhost:5000/img@sha256:01", "localhost:5000/img", "sha256:01"),
        ];
        for (image, name, version) in cases {
            assert_eq!(split(image), (name.to_owned(), version.to_owned()));
        }
    }

    #[test]
    fn a_digest_in_the_settings_counts_for_more_than_the_tag() {
        let (name, version, whole) = reference("reg:5000/a:1", Some("sha256:ff"));
        assert_eq!((&*name, &*version, &*whole), ("reg:5000/a", "sha256:ff", "reg:5000/a@sha256:ff"));
    }
}
