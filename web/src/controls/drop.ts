/** Takes files that are dropped anywhere on the page. */
export function acceptDrops(onFiles: (files: File[]) => void): void {
  const mark = (on: boolean) => document.body.classList.toggle('dropping', on);
  document.addEventListener('dragover', (event) => {
    if (!event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    mark(true);
  });
  document.addEventListener('dragleave', (event) => {
    // Only what leaves the page has nowhere to go.
    if (event.relatedTarget === null) mark(false);
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    mark(false);
    onFiles([...(event.dataTransfer?.files ?? [])]);
  });
}

/** Takes pictures, or the address of one, that are pasted anywhere but into a field. */
export function acceptPastes(onFiles: (files: File[]) => void, onAddress: (url: string) => void): void {
  document.addEventListener('paste', (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    const text = event.clipboardData?.getData('text/plain').trim() ?? '';
    if (files.length > 0) onFiles(files);
    else if (!(event.target instanceof HTMLInputElement) && /^https?:\/\/\S+$/.test(text)) onAddress(text);
    else return;
    event.preventDefault();
  });
}
