import type { Browser } from 'playwright-core';

import type { Series } from '../series.js';

/** What runs, and where. */
export interface Places {
  browser: Browser;
  programs: string;
  series: Series;
  /** URL of the edge worker, which serves the product's page too. */
  edge: string;
  /** URL of the pages of this benchmark. */
  peer: string;
}
