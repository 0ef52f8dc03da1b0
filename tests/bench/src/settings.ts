import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';

/** The value of a flag that cannot be left out. */
export function required(value: string | boolean | undefined, flag: string): string {
  if (typeof value === 'string') return value;
  console.error(`--${flag} is missing; --help lists what there is`);
  process.exit(2);
}

/** Reads the command line, or prints the help and ends. */
export function settings<T extends ParseArgsOptionsConfig>(help: string, options: T) {
  try {
    const { values } = parseArgs({ options: { ...options, help: { type: 'boolean' } } });
    if (!(values as { help?: boolean }).help) return values as ReturnType<typeof parseArgs<{ options: T }>>['values'];
    console.log(help);
    process.exit(0);
  } catch (error) {
    console.error((error as Error).message);
    process.exit(2);
  }
}

/** Runs a benchmark to its end: servers that are still there go with this process. */
export function main(run: () => Promise<void>): void {
  run().then(
    () => process.exit(),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
}
