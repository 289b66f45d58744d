//! Answers that clients refer to later (`previous_response_id`), kept in memory while there is room. Each belongs to the key
//! that asked for it.
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

/// Most bytes that are kept, as JSON.
const BYTES_MAX: usize = 64 << 20;

/// An answer and what led to it, of one key.
#[derive(Debug)]
pub struct Kept {
    tenant: u64,
    /// As text: values take many times its room.
    json: Box<str>,
}

/// What is known of an answer.
#[derive(Debug, Deserialize, Serialize)]
pub struct Known {
    /// As it was sent.
    pub response: Value,
    /// What was asked, without what came before.
    pub input: Vec<Value>,
    /// The whole conversation in the shape of chats, the answer at its end.
    pub messages: Vec<Value>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Responses(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    all: HashMap<String, Arc<Kept>>,
    /// Oldest first; those that were deleted too.
    order: VecDeque<String>,
    bytes: usize,
}

impl Responses {
    /// The answer of this name, if it was `tenant`'s.
    pub fn get(&self, id: &str, tenant: u64) -> Option<Known> {
        let kept = {
            let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            inner.all.get(id).filter(|k| k.tenant == tenant).cloned()?
        };
        serde_json::from_str(&kept.json).ok()
    }

    /// Keeps an answer; the oldest make room, those of the same key first.
    pub fn keep(&self, id: &str, tenant: u64, known: &Known) {
        let Ok(json) = serde_json::to_string(known) else { return };
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.bytes += json.len();
        inner.all.insert(id.to_string(), Arc::new(Kept { tenant, json: json.into() }));
        inner.order.push_back(id.to_string());
        while inner.bytes > BYTES_MAX {
            let own = inner.order.iter().position(|other| inner.all.get(other).is_some_and(|k| k.tenant == tenant));
            let Some(oldest) = inner.order.remove(own.unwrap_or(0)) else { break };
            inner.forget(&oldest);
        }
    }

    /// Forgets an answer; whether there was one.
    pub fn delete(&self, id: &str, tenant: u64) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = inner.all.get(id).is_some_and(|k| k.tenant == tenant);
        if known {
            inner.forget(id);
            inner.order.retain(|other| other != id);
        }
        known
    }
}

impl Inner {
    fn forget(&mut self, id: &str) {
        if let Some(gone) = self.all.remove(id) {
            self.bytes -= gone.json.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_oldest_make_room_and_others_see_nothing() {
        let all = Responses::default();
        let known = Known { response: json!("x".repeat(BYTES_MAX / 3)), input: vec![], messages: vec![] };
        for id in ["a", "b"] {
            all.keep(id, 1, &known);
        }
        assert!(all.get("a", 1).is_some() && all.get("a", 2).is_none() && !all.delete("a", 2));
        all.keep("c", 1, &known);
        assert!(all.get("a", 1).is_none() && all.get("b", 1).is_some() && all.get("c", 1).is_some());
        // Whoever keeps much pushes out its own.
        all.keep("d", 2, &known);
        assert!(all.get("d", 2).is_none() && all.get("b", 1).is_some());
        assert!(all.delete("b", 1) && !all.delete("b", 1));
        all.keep("e", 2, &known);
        assert_eq!(all.get("e", 2).unwrap().response, known.response);
    }
}
