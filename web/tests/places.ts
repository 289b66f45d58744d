/** Where the servers of the tests are. */
export const REAL = 'http://127.0.0.1:18601';
export const KEYED = 'http://127.0.0.1:18602';
/** Answers slowly, wrongly or with thoughts when asked to; see `fake.mjs`. */
export const FAKE = 'http://127.0.0.1:18603';
export const KEY = 'open-sesame-open-sesame';
