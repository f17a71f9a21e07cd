// The picture before and after, with a line between the two, zoom and pan; a preview until the result is there.

import { picture } from "./api.js";

const find = (id) => document.getElementById(id);
const bound = (value, low, high) => Math.min(Math.max(value, low), high);

const PAUSE = 350; // ms without a movement before a preview is asked for
const NEAR = 24; // px around the line that take hold of it

export class Viewer {
  job = null;
  zoom = 1; // CSS px per px of the result
  left = 0; // of the picture in the stage, CSS px
  top = 0;
  fits = true;
  pointers = new Map();
  urls = {};

  constructor(say) {
    this.say = say;
    this.stage = find("stage");
    this.divider = find("divider");
    this.divider.addEventListener("input", () => this.draw());
    this.stage.addEventListener("keydown", (event) => this.press(event));
    this.stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"])
      this.stage.addEventListener(kind, (event) => this[kind](event));
    for (const button of document.querySelectorAll("[data-zoom]"))
      button.addEventListener("click", () => this.choose(button.dataset.zoom));
    new ResizeObserver(() => this.job && (this.fits ? this.fit() : this.draw())).observe(this.stage);
  }

  // Shows a job; each state of it is given to `update`.
  async show(job) {
    this.hide();
    this.job = job;
    find("viewer").hidden = false;
    find("viewer-title").textContent = job.name;
    this.stage.style.aspectRatio = `${job.result_width} / ${job.result_height}`;
    this.fit();
    const whole = 1 / devicePixelRatio;
    if (job.state !== "done" && this.zoom < whole) this.zoomTo(whole);
    this.update(job);
    this.load("before", "before");
  }

  hide() {
    clearTimeout(this.soon);
    this.asking?.abort();
    Object.values(this.urls).forEach((url) => URL.revokeObjectURL(url));
    for (const id of ["before", "after"]) find(id).removeAttribute("src");
    Object.assign(this, { job: null, urls: {}, asking: null, wanted: "" });
    find("part").hidden = true;
    find("viewer").hidden = true;
  }

  update(job) {
    if (job.id !== this.job?.id) return;
    this.job = job;
    const done = job.state === "done";
    find("right-tag").textContent = done ? "After" : job.state === "failed" ? "No result" : "After: not yet there";
    const sides = `${job.width} × ${job.height} to ${job.result_width} × ${job.result_height}`;
    const denoise = job.denoise === null ? "" : `, denoise ${job.denoise}`;
    find("facts").textContent = `${sides} pixels, ${job.model} ${job.size}${denoise}${done ? `, ${job.seconds} s` : ""}`;
    find("notes").replaceChildren(
      ...[job.error, ...job.notes].filter(Boolean).map((text) => {
        const line = document.createElement("li");
        line.textContent = text;
        return line;
      }),
    );
    if (done && !this.urls.after) this.load("after", "after");
    this.draw();
  }

  async load(what, id) {
    const job = this.job;
    this.urls[what] = ""; // is on its way
    try {
      const { url } = await picture(`jobs/${job.id}/${what}`);
      if (this.job?.id !== job.id) return URL.revokeObjectURL(url);
      this.urls[what] = url;
      find(id).src = url;
      await find(id).decode();
      if (what === "after" && this.job?.id === job.id) {
        find("part").hidden = true;
        this.say(`${job.name}: the result is shown`);
      }
    } catch (error) {
      if (this.job?.id !== job.id) return;
      const cannot = error.name === "EncodingError" ? "is too large for this browser; download it" : error.message;
      this.say(`${job.name}: ${cannot}`);
    }
  }

  // The part in view, at once, unless the result is there.
  askPreview() {
    const { job, stage } = this;
    if (!["queued", "running"].includes(job.state)) return clearTimeout(this.soon);
    const part = job.width / job.result_width / this.zoom;
    const left = bound(Math.floor(-this.left * part), 0, job.width - 1);
    const top = bound(Math.floor(-this.top * part), 0, job.height - 1);
    const width = bound(Math.ceil((stage.clientWidth - Math.max(this.left, 0)) * part), 1, job.width - left);
    const height = bound(Math.ceil((stage.clientHeight - Math.max(this.top, 0)) * part), 1, job.height - top);
    const query = new URLSearchParams({ left, top, width, height }).toString();
    if (query === this.wanted) return;
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.preview(job, query), this.asking ? PAUSE : 0);
    this.wanted = query;
  }

  async preview(job, query) {
    this.asking?.abort();
    this.asking = new AbortController();
    const options = { method: "POST", signal: this.asking.signal };
    try {
      const { url, box } = await picture(`jobs/${job.id}/preview?${query}`, options);
      if (this.job?.id !== job.id || this.job.state === "done") return URL.revokeObjectURL(url);
      if (this.urls.part) URL.revokeObjectURL(this.urls.part);
      this.urls.part = url;
      this.box = box;
      find("part").firstElementChild.src = url;
      find("part").hidden = false;
      this.draw();
      this.say(`${job.name}: a preview of the part in view is shown`);
    } catch (error) {
      if (error.status && error.status !== 404 && error.status !== 410) this.say(error.message);
    }
  }

  choose(zoom) {
    if (zoom === "fit") this.fit();
    else if (zoom === "in") this.zoomTo(this.zoom * 1.5);
    else if (zoom === "out") this.zoomTo(this.zoom / 1.5);
    else this.zoomTo(Number(zoom) / 100 / devicePixelRatio);
  }

  fitting() {
    const { clientWidth: wide, clientHeight: high } = this.stage;
    return Math.min(wide / this.job.result_width, high / this.job.result_height);
  }

  fit() {
    this.zoom = this.fitting();
    this.fits = true;
    this.draw();
  }

  // Keeps in place what is at a point of the stage, by default at its middle.
  zoomTo(zoom, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const before = this.zoom;
    this.zoom = bound(zoom, Math.min(this.fitting(), 1 / devicePixelRatio), 32);
    this.fits = Math.abs(this.zoom / this.fitting() - 1) < 0.001;
    this.left = x - ((x - this.left) * this.zoom) / before;
    this.top = y - ((y - this.top) * this.zoom) / before;
    this.draw();
  }

  pan(x, y) {
    this.left += x;
    this.top += y;
    this.draw();
  }

  draw() {
    if (!this.job) return;
    const { clientWidth: wide, clientHeight: high } = this.stage;
    const width = this.job.result_width * this.zoom;
    const height = this.job.result_height * this.zoom;
    this.left = width <= wide ? (wide - width) / 2 : bound(this.left, wide - width, 0);
    this.top = height <= high ? (high - height) / 2 : bound(this.top, high - height, 0);
    const place = (element, x, y, w, h) =>
      Object.assign(element.style, { left: `${x}px`, top: `${y}px`, width: `${w}px`, height: `${h}px` });
    for (const id of ["before", "after"]) place(find(id), this.left, this.top, width, height);
    if (!find("part").hidden) {
      const each = width / this.job.width;
      const [x, y, w, h] = this.box.map((side) => side * each);
      place(find("part"), this.left + x, this.top + y, w, h);
    }
    const at = (wide * this.divider.value) / 100;
    find("after-side").style.clipPath = `inset(0 0 0 ${at}px)`;
    find("line").style.left = `${at}px`;
    const percent = Math.round(100 * this.zoom * devicePixelRatio);
    find("percent").textContent = `${percent} %`;
    for (const button of document.querySelectorAll("[data-zoom][aria-pressed]")) {
      const wanted = button.dataset.zoom;
      button.setAttribute("aria-pressed", wanted === "fit" ? this.fits : !this.fits && Number(wanted) === percent);
    }
    this.stage.classList.toggle("fits", width <= wide + 1 && height <= high + 1);
    this.stage.classList.toggle("pixels", percent >= 200);
    this.askPreview();
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = this.stage.clientWidth / 8;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    const zooms = { "+": "in", "=": "in", "-": "out", 0: "fit", 1: "100", 4: "400" };
    if (event.key in moves) this.pan(...moves[event.key]);
    else if (event.key in zooms) this.choose(zooms[event.key]);
    else return;
    event.preventDefault();
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const { x, y } = this.at(event);
    this.zoomTo(this.zoom * 2 ** (-event.deltaY / 200), x, y);
  }

  at(event) {
    const frame = this.stage.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  }

  pointerdown(event) {
    if (event.button) return;
    this.stage.setPointerCapture(event.pointerId);
    const point = this.at(event);
    this.sliding = !this.pointers.size && Math.abs(point.x - find("line").offsetLeft - NEAR) <= NEAR;
    this.pointers.set(event.pointerId, point);
  }

  pointermove(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    const now = this.at(event);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (other) {
      const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
      this.zoomTo((this.zoom * apart(now)) / apart(last), (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else if (this.sliding) {
      this.divider.value = (100 * now.x) / this.stage.clientWidth;
      this.draw();
    } else this.pan(now.x - last.x, now.y - last.y);
  }

  pointerup(event) {
    this.pointers.delete(event.pointerId);
  }

  pointercancel(event) {
    this.pointers.delete(event.pointerId);
  }
}
