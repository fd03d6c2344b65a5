//! Names of devices and modules; a value of these types is always well formed.

use std::fmt;
use std::sync::Arc;

/// Longest device or module id, in characters (IoT Hub identity registry).
const ID_CHARS_MAX: usize = 128;
/// What an id may contain besides ASCII letters and digits.
const ID_PUNCTUATION: &[u8] = b"-.+%_#*?!(),:=@$'";

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// No character at all.
    #[error("an id must not be empty")]
    Empty,
    /// More than 128 characters.
    #[error("an id has at most 128 characters, this one has {0}")]
    TooLong(usize),
    /// A character outside ASCII letters, digits and `- . + % _ # * ? ! ( ) , : = @ $ '`.
    #[error("an id cannot contain {0:?}")]
    Character(char),
    /// Neither `device` nor `device/module`.
    #[error("not of the form `device` or `device/module`")]
    Shape,
}

fn checked(text: &str) -> Result<Arc<str>, InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if let Some(wrong) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !is_id_punctuation(*c)) {
        return Err(InvalidId::Character(wrong));
    }
    if text.len() > ID_CHARS_MAX {
        return Err(InvalidId::TooLong(text.len()));
    }
    Ok(Arc::from(text))
}

fn is_id_punctuation(c: char) -> bool {
    u8::try_from(c).is_ok_and(|byte| ID_PUNCTUATION.contains(&byte))
}

/// A device's name: 1 to 128 characters, compared exactly, case included.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(Arc<str>);

/// A module's name within its device; the same characters as a device id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleName(Arc<str>);

impl DeviceId {
    /// Checks and takes a device id.
    ///
    /// # Errors
    /// When the text is empty, longer than 128 characters or has a character that ids cannot have.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        checked(text).map(Self)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The module `name` of this device.
    pub fn module(&self, name: ModuleName) -> ModuleId {
        ModuleId { device: self.clone(), name }
    }
}

impl ModuleName {
    /// Checks and takes a module's name.
    ///
    /// # Errors
    /// When the text is empty, longer than 128 characters or has a character that ids cannot have.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        checked(text).map(Self)
    }

    /// `$edgeAgent`, the module that stands for the agent of an edge device.
    pub fn edge_agent() -> Self {
        Self(Arc::from("$edgeAgent"))
    }

    /// `$edgeHub`, the module that stands for the local hub of an edge device.
    pub fn edge_hub() -> Self {
        Self(Arc::from("$edgeHub"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a module of the platform itself (`$edgeAgent`, `$edgeHub`).
    pub fn is_system(&self) -> bool {
        self.0.starts_with('$')
    }
}

/// A module of a device.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId {
    /// The device it belongs to.
    pub device: DeviceId,
    /// Its name within that device.
    pub name: ModuleName,
}

impl ModuleId {
    /// Reads `device/module`.
    ///
    /// # Errors
    /// When there is no slash, or either part is not an id.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let (device, name) = text.split_once('/').ok_or(InvalidId::Shape)?;
        Ok(Self { device: DeviceId::parse(device)?, name: ModuleName::parse(name)? })
    }
}

/// Who connects: a device or a module of a device. Written `device` or `device/module`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientId {
    /// A device.
    Device(DeviceId),
    /// A module.
    Module(ModuleId),
}

impl ClientId {
    /// Reads `device` or `device/module`.
    ///
    /// # Errors
    /// When a part is not an id.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if text.contains('/') {
            ModuleId::parse(text).map(Self::Module)
        } else {
            DeviceId::parse(text).map(Self::Device)
        }
    }

    /// The module `module` of `device`, or the device itself.
    pub fn new(device: DeviceId, module: Option<ModuleName>) -> Self {
        match module {
            None => Self::Device(device),
            Some(name) => Self::Module(ModuleId { device, name }),
        }
    }

    /// The device itself, or the device the module belongs to.
    pub fn device(&self) -> &DeviceId {
        match self {
            Self::Device(device) => device,
            Self::Module(module) => &module.device,
        }
    }

    /// The module's name; `None` for a device.
    pub fn module(&self) -> Option<&ModuleName> {
        match self {
            Self::Device(_) => None,
            Self::Module(module) => Some(&module.name),
        }
    }
}

impl From<DeviceId> for ClientId {
    fn from(device: DeviceId) -> Self {
        Self::Device(device)
    }
}

impl From<ModuleId> for ClientId {
    fn from(module: ModuleId) -> Self {
        Self::Module(module)
    }
}

macro_rules! text_forms {
    ($($type:ty),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, out)
            }
        }
        impl std::str::FromStr for $type {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }
    )*};
}
text_forms!(DeviceId, ModuleName, ModuleId, ClientId);

impl fmt::Display for DeviceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for ModuleId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.device, self.name)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => device.fmt(out),
            Self::Module(module) => module.fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_what_the_registry_allows() {
        for text in ["a", "Dev.A_1%2*?!(),:=@$'z", "$edgeHub", &"x".repeat(128)] {
            assert_eq!(DeviceId::parse(text).map(|id| id.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(DeviceId::parse(""), Err(InvalidId::Empty));
        assert_eq!(DeviceId::parse("a b"), Err(InvalidId::Character(' ')));
        assert_eq!(DeviceId::parse("a/b"), Err(InvalidId::Character('/')));
        assert_eq!(DeviceId::parse("ä"), Err(InvalidId::Character('ä')));
        assert_eq!(DeviceId::parse(&"x".repeat(129)), Err(InvalidId::TooLong(129)));
    }

    #[test]
    fn a_client_is_a_device_or_a_module() {
        let module = ClientId::parse("edge1/sensor").unwrap();
        assert_eq!(module.device().as_str(), "edge1");
        assert_eq!(module.module().map(ModuleName::as_str), Some("sensor"));
        assert_eq!(module.to_string(), "edge1/sensor");
        assert_eq!(ClientId::parse("leaf").unwrap().module(), None);
        assert_eq!(ClientId::parse("a/b/c"), Err(InvalidId::Character('/')));
        assert_eq!(ClientId::parse("a/"), Err(InvalidId::Empty));
    }
}
