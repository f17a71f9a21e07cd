// Requests to the server. The token, if there is one, comes in the link and stays in this tab.

const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.get("token")) {
  sessionStorage.setItem("token", fragment.get("token"));
  history.replaceState(null, "", location.pathname);
}

let askToken = () => {};

export const onUnknown = (ask) => {
  askToken = ask;
};

export class Failed extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export async function call(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(`/v1/${path}`, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failed(0, "The server does not answer; is it still running?");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) askToken();
  const told = await answer.json().catch(() => ({}));
  throw new Failed(answer.status, told.error || `The server answers ${answer.status}`);
}

// Yields the states of a job until it is over; goes on where a connection breaks.
export async function* follow(id) {
  for (;;) {
    try {
      const answer = await call(`jobs/${id}/events`);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        for (const line of lines.filter((one) => one.startsWith("data: "))) {
          const job = JSON.parse(line.slice(6));
          yield job;
          if (!["queued", "running"].includes(job.state)) return;
        }
      }
    } catch (error) {
      if (error.status) throw error;
    }
    await new Promise((resume) => setTimeout(resume, 1000));
  }
}

export async function picture(path, options) {
  const answer = await call(path, options);
  const box = answer.headers.get("preview-box");
  return { url: URL.createObjectURL(await answer.blob()), box: box && box.split(",").map(Number) };
}
