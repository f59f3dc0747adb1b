// The connection to the thread of this page's chains.

import { unpack } from "./frames.js";

/** Connects; `handlers` has a function for each kind of message, and `closed`. */
export function connect(handlers) {
  const address = new URL("chains", document.baseURI);
  address.protocol = "ws:";
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  const send = (message) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  };
  let shown = null; // the newest frame that waits to be painted
  const paint = () => {
    const frame = shown;
    shown = null;
    handlers.frame(frame);
    send({ do: "ack" });
  };
  socket.addEventListener("message", ({ data }) => {
    if (typeof data === "string") {
      const message = JSON.parse(data);
      handlers[message.kind]?.(message);
      return;
    }
    if (shown !== null) paint();
    shown = unpack(data);
    if (document.hidden) paint();
    else requestAnimationFrame(() => shown !== null && paint());
  });
  socket.addEventListener("close", ({ reason, code }) => handlers.closed(reason, code));
  return { send };
}
