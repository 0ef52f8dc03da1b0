import { SplitClient } from 'split-inference';

const { base, edge } = Object.fromEntries(new URL(location.href).searchParams);
try {
  const client = await SplitClient.connect({ url: edge, ...(base && { base }) });
  const { label } = await client.infer(new ImageData(32, 32));
  document.title = `recognised ${label}, ${client.state}`;
} catch (error) {
  document.title = `failed: ${error}`;
}
