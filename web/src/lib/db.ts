/** Conversations in the browser's IndexedDB: token probabilities make them too large for localStorage. */
import type { Conversation } from './types';

const STORE = 'conversations';
let opened: Promise<IDBDatabase> | undefined;

function open(): Promise<IDBDatabase> {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open('pondera', 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: 'id' });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error('IndexedDB'));
  });
  return opened;
}

async function run<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const transaction = (await open()).transaction(STORE, mode);
  const request = work(transaction.objectStore(STORE));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error ?? new Error('IndexedDB'));
  });
}

export const all = (): Promise<Conversation[]> => run('readonly', (s) => s.getAll() as IDBRequest<Conversation[]>);
export const put = (c: Conversation): Promise<IDBValidKey> => run('readwrite', (s) => s.put(c));
export const remove = (id: string): Promise<undefined> => run('readwrite', (s) => s.delete(id));
