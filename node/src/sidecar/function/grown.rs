//! How large an entity has become to its function, which is shown it whole when it begins beside it.
//!
//! Contract: what a function does must not make its entity one that it cannot be shown again. What this costs follows what it did,
//! until it may be too much; then the entity is looked at.

use anabranch_crdt::{Mutation, NodeId, Type};
use bytes::Bytes;

use crate::session::{believe, empty};
use crate::sidecar::connection::MESSAGE_BYTES_MAX;
use crate::sidecar::dialect::Dialect;
use crate::sidecar::shown::bytes;
use crate::sidecar::word::Word;
use crate::view::View;

/// What is said beside an entity where it is shown: its service, its key, and what holds it together.
const BESIDE_MAX: usize = 64 * 1024;
/// What an entity may grow to.
const SHOWN_MAX: usize = MESSAGE_BYTES_MAX - BESIDE_MAX;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Grown {
    /// It has no more bytes than that.
    most: usize,
    /// The bytes of what the function has said last.
    said: usize,
    /// It, as the command was given that is to be answered. Whoever changes it while this is kept copies it.
    seen: Option<View>,
}

impl Grown {
    /// What the function is told, as messages.
    ///
    /// # Errors
    /// It has no word for it, or takes none that is so large.
    pub fn told(&mut self, dialect: Dialect, word: Word) -> Result<Vec<Bytes>, String> {
        let is_of_entity = matches!(word, Word::Init { .. } | Word::Delta { .. });
        let messages = dialect.encode(word).and_then(fitting)?;
        if is_of_entity {
            let bytes = messages.iter().map(Bytes::len);
            self.most = bytes.fold(self.most, usize::saturating_add);
        }
        Ok(messages)
    }

    /// The function was given a command by this.
    pub fn given(&mut self, view: View) {
        self.seen = Some(view);
    }

    /// The function has said something with so many bytes.
    pub fn heard(&mut self, bytes: usize) {
        self.said = bytes;
    }

    /// The command was answered: it may be changed.
    pub fn answered(&mut self) -> Option<View> {
        self.seen.take()
    }

    /// The function did this to what it had seen.
    ///
    /// # Errors
    /// It makes it larger than it could be shown.
    pub fn did(
        &mut self,
        seen: Option<View>,
        ty: Type,
        (me, dialect): (NodeId, Dialect),
        mutations: &[Mutation],
    ) -> Result<(), String> {
        let said = match dialect {
            // What it makes in one entry it is shown in two.
            Dialect::Early => self.said.saturating_mul(2),
            Dialect::Kalix | Dialect::Cloudstate => self.said,
        };
        self.most = self.most.saturating_add(said);
        if self.most <= SHOWN_MAX {
            return Ok(());
        }
        // It was told that a stream is over, and has no command: what it does then is not held against it.
        let Some(seen) = seen else { return Ok(()) };
        let before = seen.read();
        let was = before.as_ref().map_or(0, |before| bytes(before, dialect));
        let mut after = before.unwrap_or_else(|| empty(ty));
        for mutation in mutations {
            believe(&mut after, Some(ty), me, mutation);
        }
        let is = bytes(&after, dialect);
        // What others have made too large it may make smaller.
        if is > SHOWN_MAX && is > was {
            self.most = was;
            return Err(format!(
                "it made its entity larger than it could be shown again: {is} bytes, and {SHOWN_MAX} are shown at most; spread it over \
                 several entities"
            ));
        }
        self.most = is;
        Ok(())
    }
}

/// Whether what is to be told is no larger than functions take.
fn fitting(messages: Vec<Bytes>) -> Result<Vec<Bytes>, String> {
    match messages.iter().map(Bytes::len).max() {
        Some(bytes) if bytes > MESSAGE_BYTES_MAX => Err(format!(
            "its function takes messages of {MESSAGE_BYTES_MAX} bytes at most, and is to be told of the entity with {bytes}; make it smaller \
             with `anabranch update`, or delete it with `anabranch delete`"
        )),
        _ => Ok(messages),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, EngineConfig, Limits, Now};
    use crate::wire::EntityId;

    const ME: NodeId = NodeId(1);
    const TO: (NodeId, Dialect) = (ME, Dialect::Kalix);

    /// Of an entity that is not there.
    fn nothing() -> View {
        let config = EngineConfig {
            cluster: "test".into(),
            node: ME,
            shards: 1,
            members: vec![ME],
            kinds: Default::default(),
            limits: Limits::default(),
        };
        let engine = Engine::new(config, Now::default());
        engine.view_as_it_is(&EntityId::new("k", "x").unwrap())
    }

    fn add(bytes: usize) -> Mutation {
        Mutation::Add(vec![vec![b'a'; bytes].into()])
    }

    fn did(grown: &mut Grown, said: usize, mutations: &[Mutation]) -> Result<(), String> {
        grown.given(nothing());
        grown.heard(said);
        let seen = grown.answered();
        grown.did(seen, Type::OrSet, TO, mutations)
    }

    #[test]
    fn an_entity_grows_to_what_its_function_can_be_shown() {
        let mut grown = Grown::default();
        // It is looked at once that may be too much, and what is there counts.
        did(&mut grown, SHOWN_MAX, &[add(100)]).unwrap();
        did(&mut grown, 100, &[add(100)]).unwrap();
        assert!(grown.most < 200, "{}", grown.most);
        let why = did(&mut grown, SHOWN_MAX, &[add(SHOWN_MAX)]).unwrap_err();
        assert!(why.contains("larger than it could be shown again"), "{why}");
        // What was refused is not there.
        did(&mut grown, 100, &[add(100)]).unwrap();
        // What it takes away on the way counts no more.
        let both = [add(SHOWN_MAX), Mutation::Clear, add(100)];
        did(&mut grown, SHOWN_MAX, &both).unwrap();
        assert!(grown.answered().is_none(), "nobody keeps it");
    }
}
