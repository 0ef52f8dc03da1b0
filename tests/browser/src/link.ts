import { Server } from './programs.js';

/** A link with a rate and a round trip, in front of a server. */
export class Link {
  readonly #proxy: Server;

  private constructor(proxy: Server) {
    this.#proxy = proxy;
  }

  static async to({ address }: Server): Promise<Link> {
    return new Link(await Server.start('link', ['--to', address]));
  }

  /** Where the server is to be had over this link. */
  get url(): string {
    return this.#proxy.url;
  }

  /** Changes what the link is like, in both directions; 0 for no limit. */
  async set({ kilobitsPerSecond, roundTripMs }: { kilobitsPerSecond: number; roundTripMs: number }): Promise<void> {
    await this.#proxy.say(`${kilobitsPerSecond} ${roundTripMs}`);
  }

  async close(): Promise<void> {
    await this.#proxy.kill();
  }
}
