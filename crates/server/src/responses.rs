//! Answers that clients refer to later (`previous_response_id`), kept in memory while there is room. Each belongs to the key
//! that asked for it.
use serde_json::Value;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

/// Most bytes that are kept, as JSON.
const BYTES_MAX: usize = 64 << 20;

/// An answer and what led to it.
#[derive(Debug)]
pub struct Kept {
    tenant: u64,
    bytes: usize,
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
    pub fn get(&self, id: &str, tenant: u64) -> Option<Arc<Kept>> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.all.get(id).filter(|k| k.tenant == tenant).cloned()
    }

    /// Keeps an answer; the oldest make room.
    pub fn keep(&self, id: &str, tenant: u64, response: Value, input: Vec<Value>, messages: Vec<Value>) {
        let size = |values: &[Value]| values.iter().map(|v| v.to_string().len()).sum::<usize>();
        let bytes = response.to_string().len() + size(&input) + size(&messages);
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.bytes += bytes;
        inner.all.insert(id.to_string(), Arc::new(Kept { tenant, bytes, response, input, messages }));
        inner.order.push_back(id.to_string());
        while inner.bytes > BYTES_MAX
            && let Some(oldest) = inner.order.pop_front()
        {
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
            self.bytes -= gone.bytes;
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
        let large = json!("x".repeat(BYTES_MAX / 3));
        for id in ["a", "b"] {
            all.keep(id, 1, large.clone(), vec![], vec![]);
        }
        assert!(all.get("a", 1).is_some() && all.get("a", 2).is_none() && !all.delete("a", 2));
        all.keep("c", 2, large.clone(), vec![], vec![]);
        assert!(all.get("a", 1).is_none() && all.get("b", 1).is_some() && all.get("c", 2).is_some());
        assert!(all.delete("b", 1) && !all.delete("b", 1));
        all.keep("d", 1, large, vec![], vec![]);
        assert!(all.get("c", 2).is_some() && all.get("d", 1).is_some());
    }
}
