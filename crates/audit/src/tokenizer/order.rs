//! Tokens whose ids do not follow the order in which a vocabulary was made.
//!
//! Owns the count of those that are out of order. A vocabulary is numbered as it is trained, merge after merge: two
//! tokens that changed places, so that one decodes to the other's text, stand out as the only ones that do not follow.

/// Fewest tokens in order that make an order.
const MOST_MIN: usize = 200;
/// Most tokens out of order, where the rest is in order, and their share of all as 1 in so many.
const ODD_MAX: usize = 16;
const ODD_SHARE: usize = 500;

/// Places in `ids` that stand out of an order which nearly all others keep; none where there is no such order.
pub(super) fn odd(ids: &[u32]) -> Vec<usize> {
    // The longest run of rising ids: `tails[n]` is the place of the least last id of a run of n + 1.
    let mut tails: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; ids.len()];
    for (at, id) in ids.iter().enumerate() {
        let n = tails.partition_point(|t| ids[*t] < *id);
        before[at] = n.checked_sub(1).map(|n| tails[n]);
        match tails.get_mut(n) {
            Some(tail) => *tail = at,
            None => tails.push(at),
        }
    }
    let count = ids.len() - tails.len();
    if tails.len() < MOST_MIN || count > ODD_MAX.max(ids.len() / ODD_SHARE) {
        return Vec::new();
    }
    let mut inside = vec![false; ids.len()];
    let mut at = tails.last().copied();
    while let Some(place) = at {
        inside[place] = true;
        at = before[place];
    }
    (0..ids.len()).filter(|at| !inside[*at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_places_stands_out() {
        let mut ids: Vec<u32> = (0..1000).collect();
        assert!(odd(&ids).is_empty());
        ids.swap(300, 700);
        assert_eq!(odd(&ids).len(), 2, "{:?}", odd(&ids));
        let mixed: Vec<u32> = (0..1000).map(|n| n * 7919 % 1000).collect();
        assert!(odd(&mixed).is_empty());
        assert!(odd(&[]).is_empty() && odd(&[3, 2, 1]).is_empty());
    }
}
