import type { Series } from 'split-inference';

/** Pictures of a data set: the sample of series that were measured on it. */
export interface Album {
  /** What they are, for people. */
  name: string;
  /** Where they are, with the text of their licence; relative to the page. */
  folder: string;
  /** Whose they are. */
  owner: string;
  /** Name of their licence, and the file with its text. */
  licence: { name: string; file: string };
  pictures: readonly {
    file: string;
    /** The class that it is of. */
    label: string;
  }[];
}

/** Test pictures of Klasson, Zhang and Kjellström, "A hierarchical grocery store image dataset with visual and semantic labels", WACV 2019. */
const GROCERY_STORE: Album = {
  name: 'Grocery Store Dataset',
  folder: 'samples/grocery-store',
  owner: '© 2019 Marcus Klasson',
  licence: { name: 'MIT licence', file: 'LICENSE.txt' },
  pictures: [
    { file: 'Royal-Gala_022.jpg', label: 'Apple' },
    { file: 'Banana_014.jpg', label: 'Banana' },
    { file: 'Arla-Standard-Milk_018.jpg', label: 'Milk' },
    { file: 'Red-Bell-Pepper_013.jpg', label: 'Pepper' },
    { file: 'Avocado_014.jpg', label: 'Avocado' },
    { file: 'God-Morgon-Orange-Juice_003.jpg', label: 'Juice' },
    { file: 'Carrots_014.jpg', label: 'Carrots' },
    { file: 'Pineapple_006.jpg', label: 'Pineapple' },
    { file: 'Brown-Cap-Mushroom_002.jpg', label: 'Mushroom' },
    { file: 'Yoggi-Strawberry-Yoghurt_010.jpg', label: 'Yoghurt' },
    { file: 'Vine-Tomato_025.jpg', label: 'Tomato' },
    { file: 'Lemon_038.jpg', label: 'Lemon' },
  ],
};

/** The pictures to show for a series, if there are any of the data set that it was measured on. */
export function albumOf({ series, measuredOn }: Series): Album | undefined {
  return /grocery/i.test(`${series} ${measuredOn}`) ? GROCERY_STORE : undefined;
}

/** Where a file of an album is. */
export function addressOf({ folder }: Album, file: string): string {
  return new URL(`${folder}/${file}`, document.baseURI).href;
}
