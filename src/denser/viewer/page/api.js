// Requests to the server, and its binary messages. Addresses are relative, so that the page also works
// behind a proxy that puts a folder before them.

import { unpack } from "./unpack.js";

export class BadInput extends Error {}

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new BadInput("The server does not answer; is denser view still running?");
  }
  if (response.ok) return response;
  let reason = `the server answered ${response.status}`;
  try {
    reason = (await response.json()).error || reason;
  } catch { /* not JSON */ }
  if (/^[a-z]+[ ,]/.test(reason)) reason = reason[0].toUpperCase() + reason.slice(1);
  throw new BadInput(reason + (/[.?!]$/.test(reason) ? "" : "."));
}

async function post(path, body) {
  const headers = { "content-type": "application/json" };
  const response = await request(path, { method: "POST", headers, body: JSON.stringify(body) });
  return response.status === 204 ? null : unpack(await response.arrayBuffer());
}

export class Server {
  async begin() {
    const begun = await (await request("api/sessions", { method: "POST" })).json();
    this.session = begun.session;
    this.formats = begun.formats;
    this.folder = begun.folder;
  }

  draw(body) {
    return post(`api/${this.session}/draw`, body);
  }

  oneStep(show) {
    return post(`api/${this.session}/one-step`, { show });
  }

  async charges() {
    return (await request(`api/${this.session}/charges`, { method: "POST" })).json();
  }

  points(show) {
    return post(`api/${this.session}/points`, { show });
  }

  async open(file, show) {
    const query = new URLSearchParams({ name: file.name, show: JSON.stringify(show) });
    const response = await request(`api/${this.session}/open?${query}`, { method: "POST", body: file });
    return unpack(await response.arrayBuffer());
  }

  async download(what) {
    const response = await request(`api/${this.session}/file/${what}`);
    const disposition = response.headers.get("content-disposition") || "";
    const name = (disposition.match(/filename="(.*)"/) || [])[1] || "denser.dat";
    saveBlob(await response.blob(), name);
  }

  async save(what) {
    return (await request(`api/${this.session}/save/${what}`, { method: "POST" })).json();
  }
}

export function saveBlob(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// One piece of work at a time; of those that wait only the newest is done.
export class Newest {
  constructor(work) {
    this.work = work;
    this.waiting = null;
    this.running = null;
  }

  push(task) {
    this.waiting = task;
    if (!this.running) this.running = this.drain();
    return this.running;
  }

  async drain() {
    try {
      while (this.waiting) {
        const task = this.waiting;
        this.waiting = null;
        await this.work(task);
      }
    } finally {
      this.running = null;
    }
  }
}
