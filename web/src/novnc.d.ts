/** The part of noVNC's interface that the page uses; see its docs/API.md. */
declare module "@novnc/novnc" {
  export default class RFB extends EventTarget {
    constructor(target: HTMLElement, channel: string | WebSocket, options?: { shared?: boolean });
    scaleViewport: boolean;
    showDotCursor: boolean;
    focusOnClick: boolean;
    background: string;
    focus(options?: FocusOptions): void;
    blur(): void;
    disconnect(): void;
    sendKey(keysym: number, code: string, down?: boolean): void;
    sendCtrlAltDel(): void;
  }
}
