// Browsers start no worker for a page that was opened from disk, and the search is one. A hidden frame does the same there.
if (location.protocol === "file:") {
  window.Worker = class IFrameWorker extends EventTarget {
    #frame = document.createElement("iframe");
    #loaded = new Promise((resolve) => { this.#frame.loadedScript = resolve; });

    constructor(url) {
      super();
      this.#frame.hidden = true;
      document.body.append(this.#frame);
      const inside = this.#frame.contentWindow;
      // What the script says comes here, and not to the page's own listeners.
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inside.document.createElement("script");
      script.src = url;
      script.onload = () => this.#frame.loadedScript();
      inside.document.body.append(script);
    }

    async postMessage(data) {
      await this.#loaded;
      const inside = this.#frame.contentWindow;
      inside.dispatchEvent(new inside.MessageEvent("message", { data }));
    }

    terminate() { this.#frame.remove(); }
  };
}
