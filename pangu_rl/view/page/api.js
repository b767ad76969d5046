// Questions to the server, and the addresses of what is looked at: they stand behind the # and never leave the browser.

export async function ask(name, asked = {}) {
  const query = new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== "" && value !== undefined));
  let answer;
  try {
    answer = await fetch(`/api/${name}?${query}`);
  } catch {
    throw new Error("the server is gone: start pangu-rl view again");
  }
  if (answer.status === 401) throw new Error("no token: open the address that pangu-rl view printed");
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

// Of several runs, as the server and the addresses name them.
export const joined = (names) => names.join("\n");

export function here() {
  const [room, query] = location.hash.slice(1).split("?");
  return { room, asked: Object.fromEntries(new URLSearchParams(query)) };
}

export function address(room, asked = {}) {
  const query = new URLSearchParams(
    Object.entries(asked).filter(([, value]) => value !== "" && value !== undefined && value !== null),
  );
  return `#${room}${query.size ? `?${query}` : ""}`;
}
