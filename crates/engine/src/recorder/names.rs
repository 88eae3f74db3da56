//! Names by numbers.

use std::collections::HashMap;

use super::OTHERS;

/// Numbers for names, from 0 on without a gap; those beyond a limit have one number together.
#[derive(Debug)]
pub(super) struct Names {
    most: usize,
    by_name: HashMap<Box<str>, u32>,
    names: Vec<String>,
}

impl Names {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            by_name: HashMap::new(),
            names: Vec::new(),
        }
    }

    pub(super) fn number(&mut self, name: &str) -> u32 {
        if let Some(known) = self.by_name.get(name) {
            return *known;
        }
        if self.names.len() < self.most || name == OTHERS {
            let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
            self.names.push(name.to_owned());
            self.by_name.insert(name.into(), number);
            return number;
        }
        self.number(OTHERS)
    }

    pub(super) fn into_names(self) -> Vec<String> {
        self.names
    }
}
