//! What is written on containers of ours.

/// The edge a container belongs to.
pub(crate) const EDGE: &str = "io.skerry.edge";
/// The module it is.
pub(crate) const MODULE: &str = "io.skerry.module";
/// Digest of the spec it was made from.
pub(crate) const SPEC_DIGEST: &str = "io.skerry.spec-digest";
/// Generation of the identity it was made for.
pub(crate) const GENERATION: &str = "io.skerry.generation";
/// The label that tools of the platform look for (`edge-module-environment` §2), and its value.
pub(crate) const OWNER: (&str, &str) = ("net.azure-devices.edge.owner", "Microsoft.Azure.Devices.Edge.Agent");
/// The image's name, for tools of the platform.
pub(crate) const ORIGINAL_IMAGE: &str = "net.azure-devices.edge.original-image";
