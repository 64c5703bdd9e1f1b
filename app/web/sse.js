// Server-Sent Events as they come out of a fetch. EventSource would hide the keep-alives and the status of a refusal.

/** Yield arrays of {id, data, comment, retry}, one array for each piece that the network gives. */
export async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = blocks.pop();
      yield blocks.map(parse);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(block) {
  const event = {};
  for (const line of block.split("\n")) {
    if (line.startsWith("data: ")) event.data = line.slice(6);
    else if (line.startsWith("id: ")) event.id = line.slice(4);
    else if (line.startsWith(": ")) event.comment = line.slice(2);
    else if (line.startsWith("retry: ")) event.retry = Number(line.slice(7));
  }
  return event;
}
