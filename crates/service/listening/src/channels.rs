//! The channels of one session.

use skerry_model::Channel;

/// The kinds of deliveries a session listens to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listening {
    commands: bool,
    methods: bool,
    desired: bool,
    inputs: bool,
}

impl Listening {
    fn flag(&mut self, channel: Channel) -> &mut bool {
        match channel {
            Channel::Commands => &mut self.commands,
            Channel::Methods => &mut self.methods,
            Channel::Desired => &mut self.desired,
            Channel::Inputs => &mut self.inputs,
        }
    }

    /// Begins or ends listening to `channel`.
    pub fn set(&mut self, channel: Channel, on: bool) {
        *self.flag(channel) = on;
    }

    /// Whether the session listens to `channel`.
    pub fn to(mut self, channel: Channel) -> bool {
        *self.flag(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_told_apart() {
        let all = [Channel::Commands, Channel::Methods, Channel::Desired, Channel::Inputs];
        for channel in all {
            let mut listening = Listening::default();
            listening.set(channel, true);
            assert!(all.iter().all(|one| listening.to(*one) == (*one == channel)), "{listening:?}");
            listening.set(channel, false);
            assert_eq!(listening, Listening::default());
        }
    }
}
