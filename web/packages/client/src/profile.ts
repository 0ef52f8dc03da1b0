/** One object store: latency profiles by the digest of the manifest that they belong to. */
const DATABASE = 'split-inference';
const STORE = 'latency-profiles';
/** A browser that does not open its database in this time is not waited for. */
const PATIENCE_MS = 500;

/** What an earlier visit learnt of this device's speed; undefined if there was none, or this browser does not keep things. */
export function restoreProfile(digest: string): Promise<unknown> {
  return attempt((database) => database.transaction(STORE).objectStore(STORE).get(digest));
}

/** Keeps what was learnt for the next visit. A browser that refuses loses nothing but time. */
export async function saveProfile(digest: string, profile: unknown): Promise<void> {
  await attempt((database) => database.transaction(STORE, 'readwrite').objectStore(STORE).put(profile, digest));
}

async function attempt(request: (database: IDBDatabase) => IDBRequest): Promise<unknown> {
  const patience = new Promise<undefined>((resolve) => setTimeout(resolve, PATIENCE_MS));
  const work = async () => {
    const database = await open();
    try {
      return await done(request(database));
    } finally {
      database.close();
    }
  };
  return Promise.race([work().catch(() => undefined), patience]);
}

function open(): Promise<IDBDatabase> {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  return done(opening);
}

function done<Answer>(request: IDBRequest<Answer>): Promise<Answer> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
