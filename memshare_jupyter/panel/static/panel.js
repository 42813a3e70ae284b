// The page of the live panel: a view for each output that shows it, drawn at most once a frame.

const RELEASED =
  "Its pages are released unless other processes view them: those go on, as orphaned.";

class View {
  constructor(store, el) {
    this.store = store;
    this.paused = false;
    this.questions = new Questions(store);
    this.summary = new Summary(store);
    this.runs = new Runs(store);
    this.hosts = new Hosts(store);
    this.table = new Table(store, this.questions);
    this.build(el);
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(this.root);
    this.fit();
    store.enter(this);
  }

  get opened() {
    return this.table.opened;
  }

  destroy() {
    this.resized.disconnect();
    this.store.leave(this);
  }

  build(el) {
    this.title = h("span", { class: "ms-title" }, "Shared memory");
    this.badge = h("span", { class: "ms-badge", role: "status" });
    const space = h("span", { class: "ms-space" });
    const { found } = this.table;
    const find = h("input", {
      type: "search",
      class: "ms-filter",
      placeholder: "Filter",
      "aria-label": "Filter pages",
      spellcheck: "false",
      oninput: () => {
        this.table.narrow(find.value.trim().toLowerCase());
        this.schedule();
      },
    });
    const pressed = () => {
      this.paused = !this.paused;
      this.schedule();
    };
    const about = { title: "Keep the table as it is", "aria-pressed": "false" };
    this.pause = h("button", { class: "ms-button", ...about, onclick: pressed }, "Pause");
    this.notice = h("div", { class: "ms-notice", hidden: true });
    this.empty = h("div", { class: "ms-empty", hidden: true });
    this.message = h("span", { class: "ms-message", role: "status" });
    this.hostName = h("span", { class: "ms-host-name" });
    this.host = h(
      "span",
      { class: "ms-host", title: "The machine that the kernel runs on", hidden: true },
      "host ",
      this.hostName,
    );
    this.hide = h("style");
    // One model's module does not know the others, so the page counts.
    globalThis.memsharePanels = (globalThis.memsharePanels ?? 0) + 1;
    this.root = h(
      "div",
      {
        class: "memshare-panel",
        role: "region",
        "aria-label": `Shared memory panel ${globalThis.memsharePanels}`,
        tabindex: "-1",
        // Lab's shortcuts would take Enter and letters from a button in an output.
        "data-lm-suppress-shortcuts": "true",
      },
      this.hide,
      h("div", { class: "ms-head" }, this.title, this.badge, space, found, find, this.pause),
      this.summary.element,
      this.notice,
      this.runs.element,
      this.hosts.element,
      this.table.element,
      this.table.handle,
      this.empty,
      h("div", { class: "ms-foot" }, this.message, this.host),
      this.questions.element,
    );
    el.append(this.root);
  }

  fit() {
    const width = this.root.clientWidth;
    if (width === this.width) return;
    this.width = width;
    this.root.classList.toggle("ms-narrow", width < NARROW_PX);
    this.root.classList.toggle("ms-medium", width < MEDIUM_PX);
    this.table.fit();
    this.schedule();
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.draw();
    });
  }

  draw() {
    const { activeElement } = this.root.getRootNode();
    const focused = this.root.contains(activeElement) ? activeElement : null;
    this.drawStatus();
    this.runs.draw();
    this.hosts.draw();
    if (!this.paused) this.summary.draw();
    this.table.draw(this.paused);
    this.empty.hidden = this.table.pages.length > 0 || this.store.number === null;
    if (!this.empty.hidden) this.drawEmpty();
    this.keepFocus(focused);
  }

  /** Who used the keyboard goes on from here when what had the focus went or was disabled. */
  keepFocus(focused) {
    if (!focused || (focused.isConnected && !focused.disabled)) return;
    const row = focused.closest("tr.ms-page");
    const next = row?.isConnected ? row.querySelector(".ms-open") : this.root;
    next.focus({ preventScroll: true });
  }

  drawStatus() {
    const { store } = this;
    const silent = Math.round((performance.now() - store.heard) / 1000);
    const [word, text] = {
      waiting: ["connecting", ""],
      live: store.error
        ? [
            "error",
            `The registry cannot be read: ${store.error}. The panel goes on trying; %memshare doctor says what is amiss.`,
          ]
        : ["live", ""],
      stale: [
        "stale",
        `No sign from the kernel for ${silent} s: it is stopped, stuck, or gone. What is shown may be outdated; actions are off.`,
      ],
      dead: [
        "stale",
        `The kernel has ended. ${RELEASED} Start it and run this cell again.`,
      ],
      restarted: [
        "stale",
        `The kernel was restarted. ${RELEASED} Run this cell again.`,
      ],
    }[store.status];
    const shown = this.paused && store.alive && !store.error ? "paused" : word;
    setText(this.badge, shown);
    setAttribute(this.badge, "data-status", shown);
    setText(this.notice, text);
    this.notice.hidden = !text;
    setAttribute(this.root, "data-status", shown);
    setText(this.pause, this.paused ? "Resume" : "Pause");
    setAttribute(this.pause, "aria-pressed", this.paused);
    setText(this.title, store.namespace ? `Shared memory of ${store.namespace}` : "Shared memory");
    // Anew also when it is the same again, so that it is announced again.
    if (this.said !== store.message) this.message.textContent = store.message.text;
    this.said = store.message;
    setAttribute(this.message, "data-failed", store.message.failed);
    setText(this.hostName, store.host);
    this.host.hidden = !store.host;
    // The stored table would say the same again.
    const twin = store.model.get("_twin");
    setText(
      this.hide,
      store.host && twin
        ? `.${twin}, .jp-OutputArea-child:has(.${twin}) { display: none !important; }`
        : "",
    );
  }

  drawEmpty() {
    const { namespace } = this.store;
    if (this.emptyShown === `${namespace}`) return;
    this.emptyShown = `${namespace}`;
    const name = namespace ?? "rna";
    const word = quoted(name);
    const magic = word && `%memshare register ${word} X`;
    const python = `from memshare_jupyter import register_variables\nregister_variables(${JSON.stringify(name)}, {"X": X})`;
    const line = (text) =>
      h("p", {}, h("code", {}, text), " ", copyButton(this.store, text, `Copy ${text}`));
    this.empty.replaceChildren(
      h(
        "p",
        {},
        namespace ? `Nothing is shared in ${namespace}. ` : "Nothing is shared. ",
        "This registers an array X:",
      ),
      ...(magic ? [line(magic), h("p", {}, "Or in Python:")] : []),
      line(python),
    );
  }
}

export default () => {
  let store;
  return {
    initialize({ model }) {
      store = new Store(model);
      return () => store.close();
    },
    render({ model, el }) {
      store ??= new Store(model);
      const view = new View(store, el);
      return () => view.destroy();
    },
  };
};
